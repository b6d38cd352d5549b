"""Keys of cephx, Ceph's own authentication: made for each run, and kept nowhere else.

Source: "Ceph configuration reference", "Auth settings", and ceph-authtool(8) for a keyring's form.
"""

from __future__ import annotations

import base64
import os
import struct
import time
from collections.abc import Mapping

#: What an entity may do, by the kind of daemon that is asked: `{"mon": "profile rbd"}`.
Caps = Mapping[str, str]


def new_key() -> str:
    """A key as a keyring has it: AES, the time at which it was made, 16 random bytes."""
    secret = os.urandom(16)
    return base64.b64encode(struct.pack("<HIIH", 1, int(time.time()), 0, 16) + secret).decode()


def keyring(entity: str, key: str, caps: Caps) -> str:
    """The section of a keyring that gives an entity, such as `client.admin`, its key."""
    allowed = "".join(f'caps {daemon} = "{what}"\n' for daemon, what in caps.items())
    return f"[{entity}]\nkey = {key}\n{allowed}"
