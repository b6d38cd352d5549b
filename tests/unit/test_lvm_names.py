"""Which volumes have names that LVM has room for while they are worked on."""

from __future__ import annotations

import pytest

from virtstore.backends.lvm.marks import UNDO_SUFFIX
from virtstore.backends.lvm.names import COPYING_SUFFIX, refuse_too_long
from virtstore.errors import UsageError

#: The longest that LVM 2.03 takes: 127 characters with every - twice, and -real behind it.
LONGEST = 127 - len("vg0-" + COPYING_SUFFIX.replace("-", "--") + "-real")


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("vg0", "x" * LONGEST),
        ("vg0", "-x" * (LONGEST // 3)),
        ("v-g", "x" * (LONGEST - 1)),
    ],
)
def test_a_name_is_as_long_as_its_longest_device_allows(group: str, name: str) -> None:
    refuse_too_long(group, name)
    with pytest.raises(UsageError, match=r"too long, by [123] characters.*virtstore-copying"):
        refuse_too_long(group, f"{name}xxx")


def test_a_volume_that_is_there_needs_room_only_for_what_is_done_with_it() -> None:
    name = "x" * (LONGEST + 5)
    refuse_too_long("vg0", name, [UNDO_SUFFIX])
    with pytest.raises(UsageError, match="lvrename"):
        refuse_too_long("vg0", name, [COPYING_SUFFIX])
