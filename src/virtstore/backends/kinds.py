"""The kinds of place that images can lie in: a line each.

All that the agent knows of a kind is its `Root` (root.py), and of what a root opens the contract
in base.py.
"""

from __future__ import annotations

from typing import Final

from virtstore.backends.base import PARTIAL_SUFFIX, REWORK_SUFFIX
from virtstore.backends.block_device.root import BlockDeviceRoot
from virtstore.backends.bucket.root import BucketRoot
from virtstore.backends.files import final_names
from virtstore.backends.files.root import DirectoryRoot
from virtstore.backends.lvm.root import VolumeGroupRoot
from virtstore.backends.rbd.root import RbdPoolRoot
from virtstore.backends.root import Root, WrongValue

__all__ = ["KINDS", "RESERVED_SUFFIXES", "Root", "WrongValue"]

#: In the order in which a path is claimed and roots are listed.
KINDS: Final[tuple[type[Root], ...]] = (
    DirectoryRoot,
    BlockDeviceRoot,
    VolumeGroupRoot,
    RbdPoolRoot,
    BucketRoot,
)

#: What the name of no image may end with, in a place of whatever kind.
RESERVED_SUFFIXES: Final = (PARTIAL_SUFFIX, REWORK_SUFFIX, *final_names.STEPS)
