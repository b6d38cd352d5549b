"""The archive that a copy is based on (`copy --base`): opened, locked, and told of where it is not
as good as it was thought to be.

Its frames are checked first and taken over later, within the kernel. Only virtstore heeds the lock:
whoever writes to the base in between, the version of its file shows.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from virtstore.agent.context import Agent
from virtstore.backends.base import ArchiveSink, Readable
from virtstore.backends.version import settled, touched
from virtstore.errors import (
    Corrupt,
    Error,
    InUse,
    Unsupported,
    UsageError,
    blamed_on,
    from_os_error,
)
from virtstore.location import canonical
from virtstore.transfer.base_archive import BaseArchive


class Base:
    """The base of a copy: its path, and what it holds. `archive`: of the chunks in it, once it was
    found fit (`prepare`)."""

    def __init__(self, path: str, image: Readable) -> None:
        self.archive: BaseArchive | None = None
        self._path = path
        self._image = image
        self._version = settled(image)
        self._unfit = ""

    def prepare(self, draft: ArchiveSink, size: int) -> BaseArchive | None:
        """The chunks that are in it, for an archive in `draft` of an image of `size` bytes; None
        where it cannot be a base. The copy is whole without."""
        try:
            self.archive = BaseArchive(self._image, draft, size)
        except (Corrupt, Unsupported) as error:
            self._unfit = error.message
        except OSError as error:  # such as of a damaged disk
            self._unfit = from_os_error(error, path=self._path).message
        return self.archive

    def require_same(self, told: Callable[[], None]) -> None:
        """Raises `InUse` where somebody wrote to it since it was opened, so that frames may have
        been taken over which are not those that were checked. `told` is called as it goes."""
        if not self.archive or not touched(self._version, self._image.version):
            return
        # Another name, owner or mode shows in the same way, and so does its removal.
        if not self.archive.is_as_it_was(told):
            raise self._changed()

    def unreadable(self, error: OSError) -> Error:
        """What an error of input or output is, in all likelihood, where frames are taken over."""
        if touched(self._version, self._image.version):
            return self._changed()
        return from_os_error(error, path=self._path)

    def _changed(self) -> InUse:
        return InUse(
            "somebody wrote to it, the base, while frames were taken from it, so the copy was not"
            " finished; run it again",
            path=self._path,
        )

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
    with agent.locked(path, "read", shared=True) as place, ExitStack() as stack:
        with blamed_on(place.path):
            image = stack.enter_context(place.store.open(place.name, stored=True))
            base = Base(place.path, image)
        try:
            yield base
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise base.unreadable(error) from error
