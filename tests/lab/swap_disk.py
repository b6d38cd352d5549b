"""In the lab: a disk with swap behind its root, made and judged: `python -m tests.lab.swap_disk`.

`make` writes such a disk to a volume. `bootable` shows that a volume, in whatever state, has such
a disk with every file in it; `finished`, that no move of the swap partition is under way.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from tests.tools import swap_images
from tests.tools.ext_images import new_tree

KIND: Final = "gpt"
_FILES: Final = 40


def main() -> None:
    what, volume = sys.argv[1:]
    copy = Path("/run/swap-disk.img")
    with new_tree(_FILES) as tree:
        if what == "make":
            swap_images.make(copy, KIND, tree)
            swap_images.put(Path(volume), 0, copy.read_bytes())
        else:
            shutil.copyfile(volume, copy)
            judge = {"bootable": swap_images.bootable, "finished": swap_images.finished}[what]
            judge(copy, KIND, tree)
    copy.unlink()


if __name__ == "__main__":
    main()
