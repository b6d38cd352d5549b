"""What an archive of ours says of what it was made of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import cast

from virtstore.agent.context import stored
from virtstore.agent.operations.cut_checks import device_of
from virtstore.agent.policy import Place
from virtstore.errors import Error
from virtstore.filesystems.detect import Contents, detect
from virtstore.model import ImageType, InnerFilesystem, Moment, Origin
from virtstore.transfer.frame_source import FrameSource
from virtstore.transfer.pieces import Source
from virtstore.transfer.sources import RawSource


def origin_of(place: Place, source: Source, moment: Moment, *, quiesced: bool) -> Origin | None:
    """The origin of an archive of this source, which was opened just now; of an archive, what that
    says itself; None where nothing is known."""
    if isinstance(source, FrameSource):
        return source.origin
    if not isinstance(source, RawSource):
        return None
    return Origin(
        made=datetime.now(UTC).replace(microsecond=0),
        host=os.uname().nodename,
        path=place.path,
        type=cast(ImageType, stored(place).type),
        moment=moment,
        quiesced=quiesced,
        filesystems=tuple(_filesystems(_contents(source))),
    )


def _contents(source: RawSource) -> Contents:
    """What is in it, as far as this host can tell: that is worth a word, and no failure."""
    with suppress(Error, OSError), device_of(source.image) as device:
        return detect(device)
    return Contents()


def _filesystems(contents: Contents) -> Iterator[InnerFilesystem]:
    if contents.filesystem:
        yield InnerFilesystem(contents.filesystem.type, contents.filesystem.label)
    for part in contents.partitions:
        if part.filesystem:
            yield InnerFilesystem(part.filesystem.type, part.filesystem.label, part.number)
