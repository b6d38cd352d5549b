#!/usr/bin/python
"""The module C(virtstore.storage.snapshot)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot
short_description: A snapshot of an image is there, or is not
version_added: 0.1.0
author: The virtstore project
description:
  - Makes a point-in-time snapshot beside an image, or removes one.
  - One that is there is kept as it is, however old. To have a new one, remove the old one first,
    or give it
    another name.
  - Volumes have snapshots, and so have files on XFS or Btrfs.
extends_documentation_fragment: virtstore.storage.common
options:
  location:
    description: The image, as C(HOST:/path), C(ssh://HOST:PORT/path), or C(/path) where the task
      runs.
    type: str
    required: true
  name:
    description: What the snapshot is called. It lies beside the image.
    type: str
    required: true
  state:
    description:
      - Whether the snapshot is there.
      - With V(absent) only what says that it is a snapshot of this image is removed. A snapshot
        of a file does
        not, since it is an image like any other; M(virtstore.storage.image) with O(state=absent)
          removes that.
    type: str
    choices: [present, absent]
    default: present
  size:
    description: Of a new snapshot of a volume that is not thin, how much of the volume may change
      (C(2G)).
    type: str
seealso:
  - module: virtstore.storage.image
"""

EXAMPLES = r"""
- name: There is a way back
  virtstore.storage.snapshot:
    location: a:/dev/vg0/web
    name: web-before-upgrade
    size: 2G

- name: The way back is not needed any more
  virtstore.storage.snapshot:
    location: a:/dev/vg0/web
    name: web-before-upgrade
    state: absent
"""

RETURN = r"""
snapshot:
  description: All that C(virtstore info) tells of the snapshot; null where there is none.
  returned: success
  type: dict
  sample: {path: /dev/vg0/web-before-upgrade, host: a, type: lvm-snapshot, snapshot_of:
    /dev/vg0/web}
location:
  description: Where the snapshot lies.
  returned: success
  type: str
  sample: a:/dev/vg0/web-before-upgrade
error:
  description: What virtstore told of a failure.
  returned: failure
  type: dict
  sample: {code: unsupported, message: this file system has no snapshots, host: a, path:
    /srv/images/web.img}
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
    Found,
    Module,
    Virtstore,
    options,
)
from ansible_collections.virtstore.storage.plugins.module_utils.sizes import bytes_of

ARGUMENTS: dict[str, dict[str, Any]] = {
    "location": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "size": {"type": "str"},
}


def work(module: Module, virtstore: Virtstore) -> Outcome:
    """Raises Failure."""
    location, name, size = (module.params[key] for key in ("location", "name", "size"))
    locations.check(location)
    locations.check_name(name)
    if size is not None:
        bytes_of(size)
    where = locations.snapshot_of(location, name)
    image, found = virtstore.images(location, where)
    if found is not None:
        refuse_another(image, where, found)
    if module.params["state"] == "absent":
        return removed(virtstore, where, found)
    if found is not None and not found.partial:
        return Outcome(False, result={"snapshot": found.info, "location": where})
    answer = virtstore.change("snapshot", *options(module, [], ["size"]), location, name)
    made = None if virtstore.check_mode else virtstore.image(where)
    told = {"snapshot": made.info if made else None, "location": where}
    return Outcome(True, ABSENT, present(answer["size"]), told)


def removed(virtstore: Virtstore, where: str, found: Found | None) -> Outcome:
    """Remove what says that it is a snapshot of the image."""
    told = {"snapshot": None, "location": where}
    if found is None:
        return Outcome(False, result=told)
    if found.snapshot_of is None:
        raise Failure(
            "unsafe",
            f"{where}: nothing says that it is a snapshot: one of a file is an image like any"
            " other; virtstore.storage.image with 'state: absent' removes it",
        )
    virtstore.change("delete", where)
    return Outcome(True, present(found.size), ABSENT, told)


def refuse_another(image: Found | None, where: str, found: Found) -> None:
    """Raises Failure for a snapshot of another image."""
    if image is not None and found.snapshot_of not in (None, image.path):
        raise Failure(
            "exists",
            f"{where} is a snapshot of {found.snapshot_of}, and not of {image.path}; choose another"
            " name",
        )


def main() -> None:
    module = AnsibleModule(argument_spec={**COMMON, **ARGUMENTS}, supports_check_mode=True)
    conclude(module, work)


if __name__ == "__main__":
    main()
