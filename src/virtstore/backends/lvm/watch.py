"""The process that removes a volume's snapshot once its agent is gone (backends/guard.py)."""

from __future__ import annotations

import sys

from virtstore.backends.guard import watch
from virtstore.backends.lvm.volume_group import VolumeGroup


def main() -> None:
    group, name = sys.argv[1:]
    watch(lambda: VolumeGroup(group).drop(name))


if __name__ == "__main__":
    main()
