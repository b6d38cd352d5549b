#!/usr/bin/python
"""The module C(virtstore.storage.image)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image
short_description: An image is there, with its size, or is not
version_added: 0.1.0
author: The virtstore project
description:
  - Makes an image of a virtual machine, empty or as a copy of another, gives it its size, or
    removes it.
  - Where nothing has to be done nothing is changed. An image that is there is never made anew.
extends_documentation_fragment: virtstore.storage.common
options:
  location:
    description:
      - The image, as C(HOST:/path), C(ssh://HOST:PORT/path), or C(/path) where the task runs.
      - The parent decides what a new image becomes, such as a volume in a volume group. A name
        that ends
        in C(.qcow2) makes a qcow2.
    type: str
    required: true
  state:
    description: Whether the image is there. What an interrupted copy left is no image, and goes
      as well.
    type: str
    choices: [present, absent]
    default: present
  size:
    description:
      - The size that the image has, as bytes or with a unit (C(10G)). A volume has whole extents,
        and one of that
        size rounded up is as asked.
      - Needed for a new image without O(source). Without it an image that is there keeps its
        size.
    type: str
  resize:
    description:
      - What has O(size). With V(image) the image alone, as C(virtstore grow) does it. With
        V(filesystem) also the
        partition and the file system in it, as C(virtstore resize) does it, also where the image
          has its size
        already and the file system does not fill it. An image without a file system is refused
          then.
    type: str
    choices: [image, filesystem]
    default: image
  shrink:
    description:
      - Whether an image may become smaller. Without it one that is larger than O(size) is a
        failure.
      - Data is never cut. With O(resize=image) an image is refused where its file system, or
        anything else, lies
        there; O(resize=filesystem) shrinks that first.
    type: bool
    default: false
  source:
    description: The image or archive, on any host, that a new image is a copy of.
    type: str
  thin:
    description: The thin pool of a volume group that a new volume is in.
    type: str
  sparse:
    description: Nothing is reserved for a new image in a directory.
    type: bool
    default: false
  preallocate:
    description: All space is reserved for a new qcow2.
    type: bool
    default: false
  backing:
    description: The image of the same host that a new qcow2 lies over.
    type: str
  with_snapshots:
    description: With O(state=absent) the image's snapshots go as well. Without it an image that
      has some is refused.
    type: bool
    default: false
  force_defined:
    description: An image is cut or removed although a domain of libvirt, which is shut off, is
      defined on it.
    type: bool
    default: false
seealso:
  - module: virtstore.storage.copy
  - module: virtstore.storage.snapshot
"""

EXAMPLES = r"""
- name: The web server has its disk
  virtstore.storage.image:
    location: a:/srv/images/web.img
    source: a:/srv/golden/debian.img
    size: 20G
    resize: filesystem

- name: The database has a volume
  virtstore.storage.image:
    location: a:/dev/vg0/db
    size: 100G

- name: The old machine's disk is gone
  virtstore.storage.image:
    location: a:/srv/images/old.img
    state: absent
"""

RETURN = r"""
image:
  description: All that C(virtstore info) tells of the image; null where there is none.
  returned: success
  type: dict
  sample: {path: /srv/images/web.img, host: a, type: file, size: 21474836480}
plan:
  description: What would be done, in check mode, as far as it can be known.
  returned: in check mode, where something would be changed
  type: list
  elements: str
error:
  description: What virtstore told of a failure.
  returned: failure
  type: dict
  sample: {code: no-space, message: 20 GiB more are needed, host: a, path: /srv/images/web.img}
"""

from dataclasses import dataclass
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
)
from ansible_collections.virtstore.storage.plugins.module_utils.sizes import bytes_of

ARGUMENTS: dict[str, dict[str, Any]] = {
    "location": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "size": {"type": "str"},
    "resize": {"type": "str", "choices": ["image", "filesystem"], "default": "image"},
    "shrink": {"type": "bool", "default": False},
    "source": {"type": "str"},
    "thin": {"type": "str"},
    "sparse": {"type": "bool", "default": False},
    "preallocate": {"type": "bool", "default": False},
    "backing": {"type": "str"},
    "with_snapshots": {"type": "bool", "default": False},
    "force_defined": {"type": "bool", "default": False},
}


@dataclass(frozen=True)
class Wanted:
    """The image as it is to be: `size` in bytes, `typed` as the task has it; None for any."""

    location: str
    size: int | None
    typed: str
    resize: str
    shrink: bool

    def verb(self, present: int | None) -> str:
        """The command that makes the image as large as it is to be, of `present` bytes."""
        if self.resize == "filesystem":
            return "resize"
        return "shrink" if self.is_less_than(present) else "grow"

    def is_less_than(self, present: int | None) -> bool:
        """Whether an image of `present` bytes is to have fewer."""
        return self.size is not None and present is not None and self.size < present


def work(module: Module, virtstore: Virtstore) -> Outcome:
    """Raises Failure."""
    params = module.params
    locations.check(params["location"], *filter(None, (params["source"], params["backing"])))
    size = params["size"]
    wanted = Wanted(
        params["location"],
        None if size is None else bytes_of(size),
        size or "",
        params["resize"],
        params["shrink"],
    )
    found = virtstore.image(wanted.location)
    if params["state"] == "absent":
        return removed(module, virtstore, wanted, found)
    if found is None:
        return made(module, virtstore, wanted)
    if found.partial:
        return made_whole(module, virtstore, wanted)
    return sized(module, virtstore, wanted, found)


def removed(module: Module, virtstore: Virtstore, wanted: Wanted, found: Found | None) -> Outcome:
    """Remove an image that is there."""
    if found is None:
        refuse_directory(virtstore, wanted.location)
        return Outcome(False, result={"image": None})
    how = options(module, ["with_snapshots", "force_defined"], [])
    gone = virtstore.change("delete", *how, wanted.location)
    before = {"state": "partial"} if found.partial else present(found.size)
    return Outcome(True, before, ABSENT, _result(virtstore, None, gone["plan"]))


def refuse_directory(virtstore: Virtstore, location: str) -> None:
    """Raises Failure for what is there and no image: a task that says that it is not would lie."""
    try:
        virtstore.ask("list", location)
    except Failure as failure:
        if failure.code == "not-found":
            return
        raise
    raise Failure("usage", f"{location} is no image, but a directory of images: it stays")


def made(module: Module, virtstore: Virtstore, wanted: Wanted) -> Outcome:
    """Make an image, as a copy where there is a source, and give it its size."""
    if module.params["source"] is None:
        plan, size = _created(module, virtstore, wanted)
    else:
        plan, size = _copied(module, virtstore, wanted)
    found = None if virtstore.check_mode else virtstore.image(wanted.location)
    if found is not None and wanted.size is not None and module.params["source"] is not None:
        outcome = sized(module, virtstore, wanted, found)
        after = present(outcome.after.get("size", found.size))
        return Outcome(True, ABSENT, after, outcome.result)
    size = found.size if found else wanted.size or size
    return Outcome(True, ABSENT, present(size), _result(virtstore, found, plan))


def made_whole(module: Module, virtstore: Virtstore, wanted: Wanted) -> Outcome:
    """Make an image of which an interrupted command left a part."""
    try:
        return made(module, virtstore, wanted)
    except Failure as failure:
        if failure.code == "exists":
            failure.message += "; it is partial: run again what was to overwrite it"
        raise


def _created(module: Module, virtstore: Virtstore, wanted: Wanted) -> tuple[list[str], int | None]:
    """Make an empty image. Returns the plan, and the size."""
    if wanted.size is None:
        raise Failure(
            "usage", f"{wanted.location} is not there: a new image needs a size, or a source"
        )
    how = options(module, ["sparse", "preallocate"], ["thin", "backing"])
    answer = virtstore.change("create", *how, wanted.location, wanted.typed)
    return answer["plan"], answer["size"]


def _copied(module: Module, virtstore: Virtstore, wanted: Wanted) -> tuple[list[str], int | None]:
    """Make a copy of the source, once it is known that it can get the size that it is to have.
    Returns the plan, and the size of the copy."""
    source: str = module.params["source"]
    words = [*options(module, ["sparse"], []), source, wanted.location]
    size: int = virtstore.plan("copy", *words)["size"]
    if wanted.is_less_than(size) and not wanted.shrink:
        raise Failure(
            "unsafe",
            f"a copy of {source} has {size} bytes, and {wanted.typed} is less; 'shrink: true'"
            " makes it smaller, where nothing is lost",
        )
    if not virtstore.check_mode:
        virtstore.change("copy", *words)
    plan = [f"copy {source} to {wanted.location}"]
    if wanted.size not in (None, size):
        plan.append(f"{wanted.verb(size)} {wanted.location} to {wanted.typed}")
    return plan, size


def sized(module: Module, virtstore: Virtstore, wanted: Wanted, found: Found) -> Outcome:
    """Give an image that is there its size."""
    if wanted.size is None:
        return Outcome(False, result={"image": found.info})
    verb = wanted.verb(found.size)
    forced = [] if verb == "grow" else options(module, ["force_defined"], [])
    words = [*forced, wanted.location, wanted.typed]
    if wanted.is_less_than(found.size) and not wanted.shrink:
        planned = virtstore.plan(verb, *words)
        if planned["changed"]:
            raise Failure(
                "unsafe",
                f"{wanted.location} has {found.size} bytes, and {wanted.typed} is less;"
                " 'shrink: true' makes it smaller, where nothing is lost",
            )
        return Outcome(False, result={"image": found.info})
    answer = virtstore.change(verb, *words)
    if not answer["changed"]:
        return Outcome(False, result={"image": found.info})
    now = None if virtstore.check_mode else virtstore.image(wanted.location)
    before, after = _shown(found, answer)
    return Outcome(True, before, after, _result(virtstore, now or found, answer["plan"]))


def _shown(found: Found, answer: Answer) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was, and is: the size of the image, and of the file system that was resized."""
    before, after = present(found.size), present(answer["size"])
    resized = answer["filesystem"]
    if resized is not None:
        before["filesystem"] = filesystem_size(found.info, answer["partition"])
        after["filesystem"] = resized["size"]
    return before, after


def filesystem_size(info: Answer, partition: int | None) -> int | None:
    """Bytes of the file system in a partition, or in an image that has none."""
    holders = [info] if partition is None else info["partitions"]
    for each in holders:
        if (partition is None or each["number"] == partition) and each["filesystem"]:
            size: int | None = each["filesystem"]["size"]
            return size
    return None


def _result(virtstore: Virtstore, found: Found | None, plan: list[str]) -> dict[str, Any]:
    told = {"plan": plan} if virtstore.check_mode else {}
    return {"image": found.info if found else None, **told}


def main() -> None:
    module = AnsibleModule(
        argument_spec={**COMMON, **ARGUMENTS},
        supports_check_mode=True,
        mutually_exclusive=[("source", "thin"), ("source", "preallocate"), ("source", "backing")],
    )
    conclude(module, work)


if __name__ == "__main__":
    main()
