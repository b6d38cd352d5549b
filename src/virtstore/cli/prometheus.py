"""What backups there are, as a file for node_exporter's textfile collector.

The format is Prometheus's text exposition format, version 0.0.4. A name is told as UTF-8, with
backslashes, quotes and line breaks escaped. The file is replaced by a rename, so that the collector
sees the old or the new.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from virtstore.backups.series import Backups, BackupSeries
from virtstore.errors import from_os_error, spelled

#: As node_exporter, another user, has to read it.
_MODE: Final = 0o644


class _Metric(NamedTuple):
    name: str
    help: str
    samples: Sequence[tuple[dict[str, str], int]]


def write_metrics(path: str, found: Backups, now: datetime, *, checked_age: bool) -> None:
    """Write the file. `checked_age`: whether it was asked which images are late."""
    text = metrics_text(found, now, checked_age=checked_age)
    try:
        _replace(Path(path), text.encode("utf-8", "replace"))
    except OSError as error:  # it names the draft
        raise from_os_error(OSError(error.errno, error.strerror), path=path) from error


def _replace(path: Path, content: bytes) -> None:
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(handle, _MODE)
            os.fsync(handle)
        os.replace(draft, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(draft)
        raise


def metrics_text(found: Backups, now: datetime, *, checked_age: bool) -> str:
    """The lines of the file."""
    return "".join(_lines(metric) for metric in _metrics(found, now, checked_age=checked_age))


def _metrics(found: Backups, now: datetime, *, checked_age: bool) -> Iterator[_Metric]:
    where = {"directory": spelled(found.host, found.path)}

    def of_each(name: str, told: str, values: Sequence[tuple[BackupSeries, int | None]]) -> _Metric:
        samples = [({**where, "image": s.name}, n) for s, n in values if n is not None]
        return _Metric(f"virtstore_backup{name}", told, samples)

    series = found.series
    newest = [(s, int(s.newest.timestamp()) if s.newest else None) for s in series]
    oldest = [(s, int(s.oldest.timestamp()) if s.oldest else None) for s in series]
    yield of_each("s", "Whole backups of the image.", [(s, s.count) for s in series])
    yield of_each("_newest_timestamp_seconds", "When the newest was made.", newest)
    yield of_each("_oldest_timestamp_seconds", "When the oldest was made.", oldest)
    yield of_each("_image_bytes", "Size of the newest's image.", [(s, s.size) for s in series])
    allocated = [(s, s.allocated) for s in series]
    yield of_each("_allocated_bytes", "Room that all backups of the image take.", allocated)
    not_whole = [(s, sum(not each.whole for each in s.backups)) for s in series]
    yield of_each("_not_whole", "Backups of the image that are cut or being made.", not_whole)
    if checked_age:
        late = [(s, int(s.late)) for s in series]
        yield of_each("_late", "Whether the newest is older than --max-age.", late)
    foreign = [(where, len(found.foreign))]
    yield _Metric("virtstore_backups_foreign", "Files that are no backups.", foreign)
    told = "When the directory was looked at."
    yield _Metric(
        "virtstore_backups_looked_timestamp_seconds", told, [(where, int(now.timestamp()))]
    )


def _lines(metric: _Metric) -> str:
    samples = [f"{metric.name}{{{_labels(labels)}}} {value}\n" for labels, value in metric.samples]
    head = f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} gauge\n"
    return head + "".join(samples) if samples else ""


def _labels(labels: dict[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
