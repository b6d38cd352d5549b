"""A power cut while a volume and its file system are being shrunk, or while the swap partition in
it is being moved: the old or the new, whole.

Each boot judges what the cut before it left, makes the volume anew, and is cut itself while
`resize` runs. A few cuts here; with VIRTSTORE_TORTURE thirty.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .uml import CHECKOUT, Lab

TORTURE: Final = "VIRTSTORE_TORTURE" in os.environ
CUTS: Final = 30 if TORTURE else 2
#: The steps of a move are shown one by one on files; here, that a volume has them in that order.
CUTS_OF_MOVES: Final = 30 if TORTURE else 1
#: Seconds from the command's start within which its power is cut; it takes less than that.
_LATEST: Final = 6.0
_TIMEOUT: Final = 300

#: A volume group with some files for every file system, and the state of the first volume.
_PREPARE: Final = """set -e
vgcreate -qq vg0 /dev/ubda
lvcreate -qq -y -T -Zn -L 100M vg0/pool
"""
_JUDGE: Final = f"""set -e
mkdir -p /etc/virtstore /run/files
printf '[[volume_group]]\\nname = "vg0"\\naccess = "write"\\n' >/etc/virtstore/config.toml
v={CHECKOUT}/.venv/bin/virtstore
if [ -e /run/lab/judge ]; then
    $v list -l /dev/vg0 >&2
    [ "$(lvs --noheadings -o lv_name,lv_tags vg0 | sort | xargs)" = "pool web" ]
    whole bootable
    size=$(blockdev --getsize64 /dev/vg0/web)
    resize >&2
    whole finished
    [ "$(lvs --noheadings -o lv_name,lv_tags vg0 | sort | xargs)" = "pool web" ]
    echo "judged $size"
    lvremove -qq -y vg0/web
fi
"""
_RUN: Final = """
$v create /dev/vg0/web $before $thin >&2
make && sync /dev/vg0/web
echo begin
resize
echo ended
sleep 600
"""

_SHRINK: Final = """
before=48M
files=/usr/share/perl5/Debconf
make() { mkfs.ext4 -q -d $files /dev/vg0/web; }
resize() { $v resize /dev/vg0/web minimum; }
whole() {
    e2fsck -fn /dev/vg0/web >&2
    rm -rf /run/files/* && debugfs -R 'rdump / /run/files' /dev/vg0/web 2>/dev/null
    rmdir /run/files/lost+found && diff -r $files /run/files >&2
}
"""
_MOVE: Final = f"""
before=20M
disk="{sys.executable} -m tests.lab.swap_disk"
make() {{ $disk make /dev/vg0/web; }}
resize() {{ $v resize /dev/vg0/web $to --move-swap; }}
whole() {{ $disk $1 /dev/vg0/web >&2; }}
"""


def test_a_shrink_that_lost_its_power_leaves_the_old_or_the_new_and_can_be_run_again(
    tmp_path: Path,
) -> None:
    sizes = _sizes_after_cuts(tmp_path / "lab", CUTS, lambda cut: _SHRINK)
    # The old size or the new one, and nothing between.
    assert len(set(sizes)) <= 2
    assert max(sizes) <= 48 << 20
    print(f"{CUTS} cuts: sizes {sorted(set(sizes))}, {sizes.count(48 << 20)} of them the old one")


def test_a_move_of_swap_that_lost_its_power_leaves_a_disk_to_boot_from_and_can_be_run_again(
    tmp_path: Path,
) -> None:
    def work(cut: int) -> str:
        return _MOVE + f"to={('minimum', '32M')[cut // 2 % 2]}\n"

    sizes = _sizes_after_cuts(tmp_path / "lab", CUTS_OF_MOVES, work)
    for cut, size in enumerate(sizes):
        assert size in ((20 << 20, 32 << 20) if cut // 2 % 2 else (20 << 20, 16 << 20, 12 << 20))


def _sizes_after_cuts(directory: Path, cuts: int, work: Callable[[int], str]) -> list[int]:
    """The sizes of the volume that the cuts left, in bytes. `work`: of each, how the volume is
    made, resized and judged."""
    chance = random.Random(7)
    lab = Lab(directory, disks=[256 << 20])
    lab.run(_PREPARE).check()
    sizes = []
    for cut in range(cuts + 1):
        thin = "thin='--thin pool'\n" if cut % 2 else "thin=\n"
        script = work(cut - 1) + _JUDGE if cut else _JUDGE
        script += work(cut) + thin + _RUN if cut < cuts else ""
        with lab.boot(("touch /run/lab/judge\n" if cut else "") + script) as machine:
            if cut == cuts:
                said = machine.wait(_TIMEOUT).check().stdout
            else:
                machine.wait_for(b"begin\n", _TIMEOUT)
                time.sleep(chance.uniform(0, _LATEST))
                machine.require_running()
                said = machine.cut_power().stdout
        if cut:
            [size] = [line for line in said.splitlines() if line.startswith(b"judged ")]
            sizes.append(int(size.split()[1]))
    return sizes
