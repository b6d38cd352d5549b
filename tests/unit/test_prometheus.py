"""The file for node_exporter: what a collector would refuse, or alarm for nothing of."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from virtstore.backups.series import Backup, Backups, BackupSeries
from virtstore.cli.prometheus import metrics_text

NOW = datetime(2026, 11, 28, 8, 0, 0, tzinfo=UTC)
_SAMPLE = re.compile(r'[a-z_]+\{(?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)+\} \d+')


def series(name: str, made: datetime | None = NOW) -> BackupSeries:
    whole = made is not None
    one = Backup("/b/x", made or NOW, 1000 if whole else None, 10, whole)
    return BackupSeries(name, int(whole), made, made, one.size, 10, False, (one,))


def text_of(*found: BackupSeries, checked_age: bool = False) -> str:
    told = Backups("/mnt/b", "b", found, ("/mnt/b/x",))
    return metrics_text(told, NOW, checked_age=checked_age)


def test_each_metric_has_one_head_before_its_samples() -> None:
    text = text_of(series("db"), series("web"), checked_age=True)
    heads = re.findall(r"^# TYPE (\S+) gauge$", text, re.M)
    assert len(set(heads)) == len(heads) == 9
    current = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split()[2]
        elif not line.startswith("#"):
            assert line.startswith(f"{current}{{")
            assert _SAMPLE.fullmatch(line)
    assert text.endswith("\n")


def test_a_name_that_others_chose_cannot_forge_a_line() -> None:
    text = text_of(series('a"} 1\nvirtstore_backups{image="b\\'))
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(_SAMPLE.fullmatch(line) for line in samples)
    assert r'image="a\"} 1\nvirtstore_backups{image=\"b\\"' in text


def test_what_is_not_known_is_left_out() -> None:
    text = text_of(series("web", None))
    assert "virtstore_backup_newest_timestamp_seconds" not in text
    assert 'virtstore_backups{directory="b:/mnt/b",image="web"} 0\n' in text
    assert 'virtstore_backup_not_whole{directory="b:/mnt/b",image="web"} 1\n' in text
    assert "virtstore_backup_late" not in text


def test_the_time_of_the_look_tells_that_the_check_still_runs() -> None:
    looked = f'virtstore_backups_looked_timestamp_seconds{{directory="b:/mnt/b"}} {1795852800}\n'
    assert looked in text_of()
