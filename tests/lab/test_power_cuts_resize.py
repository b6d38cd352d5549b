"""A power cut while a volume and its file system are being shrunk: the old or the new, whole.

Each boot judges what the cut before it left, makes the volume anew, and is cut itself while
`resize` runs. A few cuts here; with VIRTSTORE_TORTURE thirty.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Final

from .uml import CHECKOUT, Lab

CUTS: Final = 30 if "VIRTSTORE_TORTURE" in os.environ else 2
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
files=/usr/share/perl5/Debconf
whole() {{
    e2fsck -fn /dev/vg0/web >&2
    rm -rf /run/files/* && debugfs -R 'rdump / /run/files' /dev/vg0/web 2>/dev/null
    rmdir /run/files/lost+found && diff -r $files /run/files >&2
}}
if [ -e /run/lab/judge ]; then
    $v list -l /dev/vg0 >&2
    [ "$(lvs --noheadings -o lv_name,lv_tags vg0 | sort | xargs)" = "pool web" ]
    whole
    size=$(blockdev --getsize64 /dev/vg0/web)
    $v resize /dev/vg0/web minimum >&2
    whole
    [ "$(lvs --noheadings -o lv_name,lv_tags vg0 | sort | xargs)" = "pool web" ]
    echo "judged $size"
    lvremove -qq -y vg0/web
fi
"""
_RUN: Final = """
$v create /dev/vg0/web 48M $thin >&2
mkfs.ext4 -q -d $files /dev/vg0/web && sync /dev/vg0/web
echo begin
$v resize /dev/vg0/web minimum
echo ended
sleep 600
"""


def test_a_shrink_that_lost_its_power_leaves_the_old_or_the_new_and_can_be_run_again(
    tmp_path: Path,
) -> None:
    chance = random.Random(7)
    lab = Lab(tmp_path / "lab", disks=[256 << 20])
    lab.run(_PREPARE).check()
    sizes = []
    for cut in range(CUTS + 1):
        thin = "thin='--thin pool'\n" if cut % 2 else "thin=\n"
        script = _JUDGE + (thin + _RUN if cut < CUTS else "")
        with lab.boot(("touch /run/lab/judge\n" if cut else "") + script) as machine:
            if cut == CUTS:
                said = machine.wait(_TIMEOUT).check().stdout
            else:
                machine.wait_for(b"begin\n", _TIMEOUT)
                time.sleep(chance.uniform(0, _LATEST))
                machine.require_running()
                said = machine.cut_power().stdout
        if cut:
            [size] = [line for line in said.splitlines() if line.startswith(b"judged ")]
            sizes.append(int(size.split()[1]))
    # The old size or the new one, and nothing between.
    assert len(set(sizes)) <= 2
    assert max(sizes) <= 48 << 20
    print(f"{CUTS} cuts: sizes {sorted(set(sizes))}, {sizes.count(48 << 20)} of them the old one")
