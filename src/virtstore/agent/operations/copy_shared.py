"""A copy that shares its source's blocks: the file system makes it, at one moment.

Nothing is read for that. The digest is, off the copy, before it has its name: an image that nobody
has read has none, and what cannot be read is not published.
"""

from __future__ import annotations

from virtstore.agent.context import Agent
from virtstore.agent.operations.copy_target import Opened
from virtstore.agent.policy import Place
from virtstore.errors import Unsupported, blamed_on
from virtstore.transfer.hashing import check, confirm
from virtstore.transfer.pieces import Source
from virtstore.transfer.receive import Outcome
from virtstore.transfer.sources import RawSource


def require_sharing(place: Place, source: Source) -> RawSource:
    """The source, as one whose blocks an image at that place can share. Raises `Unsupported`."""
    made = None if source.holds else place.store.container_of(place.name)
    try:
        if not isinstance(source, RawSource):
            raise Unsupported("an archive is unpacked, and shares no blocks with its image")
        if form := source.image.container or made:
            raise Unsupported(
                f"the disk in a {form} is written anew when it is copied, and shares no blocks;"
                " 'virtstore snapshot' makes another file beside it that does"
            )
        place.store.require_sharing(source.image)
        return source
    except Unsupported as error:
        error.message += "; leave --reflink out"
        error.path = error.path or place.path
        raise


def share_blocks(agent: Agent, origin: Place, source: RawSource, opened: Opened) -> Outcome:
    """A copy that shares blocks, up to but not including its publishing. Raises `InUse` where
    somebody wrote to the source since it was opened."""
    draft = opened.image
    assert draft is not None  # no archive
    draft.share(source.image)
    agent.session.stage("verifying")
    digest = check(RawSource(draft, source.size), agent.session.progress)
    with blamed_on(origin.path):
        source.check()
        confirm(source, digest)
    return Outcome(0, digest, source.size)
