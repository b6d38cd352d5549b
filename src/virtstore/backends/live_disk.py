"""The disk of a running domain as it is at one moment, while its guest goes on writing."""

from __future__ import annotations

from collections.abc import Iterator

from virtstore.backends.base import Readable, Version
from virtstore.backends.nbd.export import Export
from virtstore.errors import ConnectionFailed
from virtstore.libvirt.backup_job import Backup
from virtstore.libvirt.guard import Guard
from virtstore.model import Extent


class LiveDisk(Readable):
    """What the domain's backup job exports. The job ends with it, or with this process. `warnings`:
    what there is to say of the moment that it is of."""

    def __init__(self, backup: Backup) -> None:
        self._guard = Guard(backup)
        self.warnings = self._guard.warnings
        try:
            self._export = Export(backup.socket, backup.target)
        except BaseException:
            self._guard.end()
            raise

    @property
    def size(self) -> int:
        return self._export.size

    @property
    def version(self) -> Version:
        return self._export.version

    def read_at(self, offset: int, length: int) -> bytes:
        try:
            return self._export.read_at(offset, length)
        except ConnectionFailed as error:
            raise self._why(error) from None

    def extents(self) -> Iterator[Extent]:
        try:
            yield from self._export.extents()
        except ConnectionFailed as error:
            raise self._why(error) from None

    def close(self) -> None:
        self._export.close()
        if failed := self._guard.end():
            raise failed

    def _why(self, error: ConnectionFailed) -> Exception:
        """Why the export cannot be read any more: what its guard ended it for, or else that the
        domain has ended it."""
        return self._guard.end() or ConnectionFailed(
            f"the domain's backup job is over before all was read: the domain was stopped, or"
            f" somebody ended the job ({error.message}); run the same command again"
        )
