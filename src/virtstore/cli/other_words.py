"""The command that somebody means who types another's word for it: the shell's, virsh's or lvm's.

What is merely typed wrong is the nearest command's, and comes after these: `remove` is nearer to
`rename` than to `delete`, and `df` to `diff`.
"""

from __future__ import annotations

import difflib
from typing import Final

from virtstore.cli.commands import COMMANDS

#: The words of others, by what they are called here.
WORDS: Final = {
    "list": "ls ll dir lvs vgs pool-list vol-list",
    "info": "show stat file inspect describe display dominfo vol-info lvdisplay",
    "verify": "check fsck test scrub validate",
    "diff": "compare cmp",
    "export": "nbd nbdkit serve mount",
    "files": "tree",
    "extract": "cat get fetch copy-out",
    "create": "new make mk touch allocate",
    "snapshot": "snap",
    "rename": "mv move ren",
    "delete": "rm remove del erase unlink destroy undefine lvremove",
    "grow": "extend enlarge expand lvextend",
    "shrink": "reduce truncate lvreduce",
    "growfs": "resize2fs xfs_growfs",
    "copy": "cp clone duplicate dup send sync rsync scp dd import",
    "compress": "zip gzip pack archive",
    "prune": "forget expire rotate",
    "uncompress": "unzip gunzip unpack decompress",
    "storage-info": "df du status free space storage pool-info",
    "jobs": "ps top",
    "doctor": "diagnose health",
    "completion": "complete",
    "help": "man usage",
}
_MEANT: Final = {word: verb for verb, words in WORDS.items() for word in words.split()}


def meant_by(word: str) -> str | None:
    """The command that a word is likely to mean, which is none."""
    nearest = difflib.get_close_matches(word, COMMANDS, 1)
    return _MEANT.get(word.lower()) or (nearest[0] if nearest else None)
