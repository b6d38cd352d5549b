#!/usr/bin/python
"""The module C(virtstore.storage.copy)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: copy
short_description: A copy of an image is there, as an image or as an archive
version_added: 0.1.0
author: The virtstore project
description:
  - Copies an image or archive between any two hosts. A copy has its name once it is whole.
  - A target that is there stays as it is, whatever is in it, unless O(overwrite) or O(contents)
    is given. Then the two
    are compared, by digests that each host makes where its image lies, and what is equal is not
      copied.
extends_documentation_fragment: virtstore.storage.common
options:
  source:
    description: The image or archive, as C(HOST:/path), C(ssh://HOST:PORT/path), or C(/path)
      where the task runs.
    type: str
    required: true
  target:
    description: Where the copy is, likewise. In a directory or volume group it is called like the
      source.
    type: str
    required: true
  archive:
    description: The copy is compressed.
    type: bool
    default: false
  format:
    description: The archive's format. Without it the target's name says that, or it is V(zstd).
    type: str
    choices: [zstd, lz4, lzop, gzip, xz]
  level:
    description: The compression level.
    type: int
  base:
    description: An earlier archive of the image on the target's host. What that has is neither
      sent nor compressed again.
    type: str
  keep_snapshot:
    description:
      - With O(snapshot) and O(archive), of an RBD image, the snapshot stays, so that the next copy
        with this archive as its O(base) reads only what was written since.
    type: bool
    default: false
  overwrite:
    description: A target that differs is replaced, once the copy is whole.
    type: bool
    default: false
  contents:
    description:
      - A target that differs is overwritten in place, by the blocks that differ, as C(virtstore
        copy-contents) does it.
        It has to be as large as the source, or larger.
      - What the target has beyond the source's end is zeroed then, and not looked at where all
        else is equal.
    type: bool
    default: false
  snapshot:
    description: The source is copied as it is at one moment, from a snapshot.
    type: bool
    default: false
  live:
    description: The disk of a running libvirt domain is copied as it is at one moment.
    type: bool
    default: false
  quiesce:
    description: The guest's file systems are frozen for that moment. With V(try) also where no
      agent answers in it.
    type: str
    choices: ["false", "true", try]
    default: "false"
  allow_in_use:
    description: A source that somebody may be writing to is copied all the same.
    type: bool
    default: false
  sparse:
    description: Nothing is reserved for a target in a directory.
    type: bool
    default: false
  reflink:
    description: The copy shares the source's blocks, within one file system of one host (XFS,
      Btrfs).
    type: bool
    default: false
  bwlimit:
    description: What is moved at the most in a second (C(10M)).
    type: str
  nice:
    description: Processor and disks are left to others, on both hosts.
    type: bool
    default: false
  raw:
    description: What is copied is a raw disk, even if it looks like a container.
    type: bool
    default: false
  force_defined:
    description: A target is overwritten although a domain of libvirt, which is shut off, is
      defined on it.
    type: bool
    default: false
seealso:
  - module: virtstore.storage.backup
  - module: virtstore.storage.image
"""

EXAMPLES = r"""
- name: The golden image is on every host of the group
  virtstore.storage.copy:
    source: builder:/srv/golden/debian.img
    target: "{{ inventory_hostname }}:/srv/golden/debian.img"
    overwrite: true
  delegate_to: localhost

- name: The volume has what the golden image has
  virtstore.storage.copy:
    source: a:/srv/golden/debian.img
    target: a:/dev/vg0/kiosk
    contents: true
"""

RETURN = r"""
location:
  description: Where the copy is.
  returned: success
  type: str
  sample: b:/srv/golden/debian.img
copy:
  description: What C(virtstore copy) or C(virtstore copy-contents) told; null where nothing was
    copied.
  returned: success
  type: dict
  sample: {source: builder:/srv/golden/debian.img, target: b:/srv/golden/debian.img, size:
    21474836480,
    transferred: 830472192, written: 2147483648, seconds: 9.3}
different:
  description: How many bytes of a target that was there differed from the source; null for one
    that was partial.
  returned: with O(overwrite) or O(contents), where the target was there
  type: int
  sample: 4096
error:
  description: What virtstore told of a failure.
  returned: failure
  type: dict
  sample: {code: in-use, message: somebody uses it, host: b, path: /srv/golden/debian.img}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtstore.storage.plugins.module_utils import locations
from ansible_collections.virtstore.storage.plugins.module_utils.failure import (
    Failure,
)
from ansible_collections.virtstore.storage.plugins.module_utils.outcome import (
    ABSENT,
    COMMON,
    Outcome,
    conclude,
    present,
)
from ansible_collections.virtstore.storage.plugins.module_utils.running import (
    Answer,
    Found,
    Module,
    Virtstore,
    options,
    quiescing,
)

ARGUMENTS: dict[str, dict[str, Any]] = {
    "source": {"type": "str", "required": True},
    "target": {"type": "str", "required": True},
    "archive": {"type": "bool", "default": False},
    "format": {"type": "str", "choices": ["zstd", "lz4", "lzop", "gzip", "xz"]},
    "level": {"type": "int"},
    "base": {"type": "str"},
    "keep_snapshot": {"type": "bool", "default": False},
    "overwrite": {"type": "bool", "default": False},
    "contents": {"type": "bool", "default": False},
    "snapshot": {"type": "bool", "default": False},
    "live": {"type": "bool", "default": False},
    "quiesce": {"type": "str", "choices": ["false", "true", "try"], "default": "false"},
    "allow_in_use": {"type": "bool", "default": False},
    "sparse": {"type": "bool", "default": False},
    "reflink": {"type": "bool", "default": False},
    "bwlimit": {"type": "str"},
    "nice": {"type": "bool", "default": False},
    "raw": {"type": "bool", "default": False},
    "force_defined": {"type": "bool", "default": False},
}

#: The options of `copy-contents`, which are those of `copy` as well.
_BOTH = ["snapshot", "allow_in_use", "nice", "raw", "force_defined"]
_COPY = ["archive", "keep_snapshot", "live", "sparse", "reflink"]


def work(module: Module, virtstore: Virtstore) -> Outcome:
    """Raises Failure."""
    source, target = module.params["source"], module.params["target"]
    locations.check(source, target, *filter(None, [module.params["base"]]))
    words = [*copy_options(module), source, target]
    try:
        return copied_to(virtstore.change("copy", *words), ABSENT)
    except Failure as failure:
        if failure.code != "exists" or failure.location is None:
            raise
        return over(module, virtstore, failure, failure.location, words)


def over(
    module: Module, virtstore: Virtstore, exists: Failure, where: str, words: list[str]
) -> Outcome:
    """What becomes of a target that is there. `exists`: what virtstore says of it; `words`: those
    of a new copy."""
    if module.params["overwrite"]:
        return replaced(virtstore, where, words)
    found = virtstore.image(where)
    if found is None:  # it is a directory
        raise exists
    if module.params["contents"]:
        return renewed(module, virtstore, where, found)
    if found.partial:
        exists.message += "; it is partial: run again what was to overwrite it"
        raise exists
    return Outcome(False, result={"location": where, "copy": None})


def copy_options(module: Module) -> list[str]:
    words = options(module, [*_BOTH, *_COPY], ["format", "level", "base", "bwlimit"])
    return [*words, *quiescing(module)]


def copied_to(copied: Answer, before: dict[str, Any], different: int | None = None) -> Outcome:
    """A new copy. `different`: the bytes that differed in what was in its place."""
    told = {"location": copied["target"], "copy": copied}
    if different is None:
        return Outcome(True, before, present(copied["size"]), told)
    after = present(copied["size"], different=0)
    return Outcome(True, before, after, {**told, "different": different})


def replaced(virtstore: Virtstore, where: str, words: list[str]) -> Outcome:
    """Put a new copy in place of a target that differs. `words`: those of a new copy."""
    found = virtstore.ask("diff", words[-2], where)
    different: int = found["different"]
    if not different:
        return Outcome(False, result={"location": where, "copy": None, "different": 0})
    copied = virtstore.change("copy", "--overwrite", *words)
    return copied_to(copied, present(found["size"], different=different), different)


def renewed(module: Module, virtstore: Virtstore, where: str, found: Found) -> Outcome:
    """Overwrite a target in place, where it differs. One that is partial is not compared: what was
    cut may have left it equal to neither."""
    source: str = module.params["source"]
    different: int | None = None
    if not found.partial:
        different = virtstore.ask("diff", source, where)["different"]
        if different is not None and different <= beyond(virtstore.image(source), found):
            told = {"location": where, "copy": None, "different": different}
            return Outcome(False, result=told)
    copied = virtstore.change("copy-contents", *options(module, _BOTH, ["bwlimit"]), source, where)
    told = {"location": where, "copy": copied, "different": different}
    before = present(found.size, different=different)
    return Outcome(True, before, present(found.size, different=0), told)


def beyond(source: Found | None, target: Found) -> int:
    """How many bytes the target has beyond the source's end, which `diff` counts as different."""
    if source is None or source.size is None or target.size is None:
        return 0
    return max(target.size - source.size, 0)


def main() -> None:
    module = AnsibleModule(
        argument_spec={**COMMON, **ARGUMENTS},
        supports_check_mode=True,
        mutually_exclusive=[("overwrite", "contents")],
    )
    conclude(module, work)


if __name__ == "__main__":
    main()
