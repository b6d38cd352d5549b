"""The archive that a copy is based on (`copy --base`): opened, locked, and told of where it is not
as good as it was thought to be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from virtstore.agent.context import Agent
from virtstore.backends.base import ArchiveSink, Readable
from virtstore.errors import Corrupt, Unsupported, UsageError, blamed_on
from virtstore.location import canonical
from virtstore.transfer.base_archive import BaseArchive


class Base:
    """The base of a copy: its path, and what it holds. `archive`: of the chunks in it, once it was
    found fit (`prepare`)."""

    def __init__(self, path: str, image: Readable) -> None:
        self.archive: BaseArchive | None = None
        self._path = path
        self._image = image
        self._unfit = ""

    def prepare(self, draft: ArchiveSink, size: int) -> BaseArchive | None:
        """The chunks that are in it, for an archive in `draft` of an image of `size` bytes; None
        where it cannot be a base. The copy is whole without."""
        try:
            self.archive = BaseArchive(self._image, draft, size)
        except (Corrupt, Unsupported) as error:
            self._unfit = error.message
        return self.archive

    @property
    def warnings(self) -> tuple[str, ...]:
        """What there is to say of it when the copy is whole."""
        if self._unfit:
            return (f"{self._path} was no use as a base, so all was sent: {self._unfit}",)
        damaged = self.archive.damaged if self.archive else 0
        if not damaged:
            return ()
        frames = "a frame" if damaged == 1 else f"{damaged} frames"
        return (
            f"{self._path}, the base, is damaged in {frames}, of which the contents were sent anew;"
            " 'virtstore verify' tells where it is damaged",
        )


@contextmanager
def opened_base(agent: Agent, path: str | None, target: str) -> Iterator[Base | None]:
    """The base of a copy to `target`, locked against change; None for a copy without one. Raises
    what is wrong with its path."""
    if path is None:
        yield None
        return
    if agent.policy.address(path) == agent.policy.address(canonical(target)):
        raise UsageError("the base is the target itself; name an earlier archive", path=path)
    with (
        agent.locked(path, "read", shared=True) as place,
        blamed_on(place.path),
        place.store.open(place.name, stored=True) as image,
    ):
        yield Base(place.path, image)
