"""What `rados` shows of a pool's trash."""

from __future__ import annotations

from virtstore.backends.rbd import removals
from virtstore.backends.rbd.removals import Removal


def test_removals_that_were_begun_are_told_from_what_somebody_keeps_in_the_trash() -> None:
    said = b"""id_10ce4c6bea4d
value (29 bytes) :
00000000  02 01 17 00 00 00 03 01  00 00 00 78 15 5d 0c 6b  |...........x.].k|
00000010  87 8c 67 23 15 5d 0c 6b  87 8c 67 23 02           |..g#.].k..g#.|
0000001d

id_10ce4c6bea4e
value (31 bytes) :
00000000  02 01 19 00 00 00 03 03  00 00 00 77 65 62 15 5d  |...........web.]|
00000010  0c 6b 87 8c 67 23 15 5d  0c 6b 87 8c 67 23 01     |.k..g#.].k..g#.|
0000001f

id_10ce4c6bea4f
value (29 bytes) :
00000000  02 01 17 00 00 00 00 01  00 00 00 79 15 5d 0c 6b  |...........y.].k|
00000010  87 8c 67 23 15 5d 0c 6b  87 8c 67 23 00           |..g#.].k..g#.|
0000001d

"""
    assert list(removals.entries(said)) == [
        Removal("10ce4c6bea4d", "x", has_name=False),
        Removal("10ce4c6bea4e", "web", has_name=True),
    ]
