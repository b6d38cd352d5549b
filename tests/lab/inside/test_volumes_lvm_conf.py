"""What other people's lvm.conf makes of LVM's reports changes nothing of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import virtstore
from virtstore.backends.lvm import report

from .shell import MIB, sh

_LVM_CONF: Final = Path("/etc/lvm/lvm.conf")

#: Another value for each kind of setting, in place of its default.
_OTHERS: Final = {"0": "1", "1": "0", '","': '";"', '" "': '"|"', '"basic"': '"json"'}
#: Of settings that take names of columns: columns of segments, of which a volume has several.
_COLUMNS: Final = {
    "lvs_sort": '"seg_start"', "vgs_sort": '"pv_name"', "lvs_cols": '"seg_start"',
    "lvs_sort_full": '"seg_start"', "vgs_sort_full": '"lv_name"', "segs_sort_full": '"pv_name"',
}  # fmt: skip


@pytest.fixture
def lvm_conf() -> Iterator[Path]:
    before = _LVM_CONF.read_text()
    yield _LVM_CONF
    _LVM_CONF.write_text(before)


@pytest.fixture
def volumes(here: virtstore.Host) -> None:
    """One of several segments, one with a snapshot, one in a pool with a snapshot of its own."""
    here.create("/dev/vg0/one", 8 * MIB)
    here.create("/dev/vg0/two", 8 * MIB)
    here.image("/dev/vg0/one").grow(16 * MIB)
    here.image("/dev/vg0/two").snapshot("two-s1")
    sh("lvcreate -qq -y -L 20M -T vg0/pool")
    here.create("/dev/vg0/thin", 8 * MIB, thin="pool")
    here.image("/dev/vg0/thin").snapshot("thin-s1")


def changed_settings() -> dict[str, str]:
    """Every setting of lvm.conf that shapes reports, with a value that is not its default."""
    found = {}
    for line in sh("lvmconfig --type default report").splitlines():
        name, equals, value = line.strip().lstrip("# ").partition("=")
        if equals:
            found[name] = _COLUMNS.get(name) or _OTHERS.get(value, '"lv_name"')
    return found


def test_no_setting_of_reports_changes_what_is_reported(volumes: None, lvm_conf: Path) -> None:
    before, original = report.report("vg0"), lvm_conf.read_text()
    assert {v.name: v.type for v in before.volumes} == {
        "one": "lvm", "two": "lvm", "two-s1": "lvm-snapshot",
        "pool": None, "thin": "lvm-thin", "thin-s1": "lvm-thin-snapshot",
    }  # fmt: skip
    everything = changed_settings()
    # Some alone: what one of them does, another might hide.
    alone = ("list_item_separator", "compact_output", "binary_values_as_numeric", "lvs_sort_full")
    for settings in (everything, *({name: everything[name]} for name in alone)):
        lines = " ".join(f"{name}={value}" for name, value in settings.items())
        lvm_conf.write_text(f"{original}\nreport {{ {lines} }}\nlog {{ report_command_log=1 }}\n")
        assert report.report("vg0") == before, lines


def test_a_snapshot_is_made_and_removed_whatever_separates_items(
    volumes: None, here: virtstore.Host, lvm_conf: Path
) -> None:
    lvm_conf.write_text(lvm_conf.read_text() + 'report { list_item_separator=";" prefixes=1 }\n')
    with virtstore.connect("local:") as other:
        made = other.image("/dev/vg0/two").snapshot("two-s2")
        assert other.image(made.path).info().snapshot_of == "/dev/vg0/two"
        other.image(made.path).delete()
    assert "two-s2" not in sh("lvs --noheadings -o lv_name vg0")
