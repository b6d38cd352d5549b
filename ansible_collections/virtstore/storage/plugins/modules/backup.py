#!/usr/bin/python
"""The module C(virtstore.storage.backup)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup
short_description: Images are backed up, or were lately
version_added: 0.1.0
author: The virtstore project
description:
  - Backs up images to archives in a directory, each as it is at one moment. A backup is based on
    the newest one of its
    image.
  - Each run makes new backups, unless O(max_age) says how old the newest one of an image may be.
  - One that fails does not stop the others. The task fails then, and its result has all of them.
extends_documentation_fragment: virtstore.storage.common
options:
  sources:
    description: Images, and directories or volume groups with all of their images.
    type: list
    elements: str
  directory:
    description: The directory of the backups, which is there.
    type: str
  job:
    description:
      - A job, by name or by the path of its file, where the task runs. Its file says all that is
        done.
      - With O(max_age) the whole job is run where one of its images is due.
    type: str
  max_age:
    description: How old the newest backup of an image may be (C(26h), C(8d)) for that image to be
      left out.
    type: str
  include:
    description: Of a directory or volume group only images whose names fit such a pattern.
    type: list
    elements: str
  exclude:
    description: Of a directory or volume group no image whose name fits such a pattern.
    type: list
    elements: str
  keep_last:
    description: The last so many backups of each image stay, and others that another
      O(ignore:keep_…) keeps.
    type: int
  keep_hourly:
    description: The newest backup of each of the last so many hours stays.
    type: int
  keep_daily:
    description: The newest backup of each of the last so many days stays.
    type: int
  keep_weekly:
    description: The newest backup of each of the last so many weeks stays.
    type: int
  keep_monthly:
    description: The newest backup of each of the last so many months stays.
    type: int
  keep_yearly:
    description: The newest backup of each of the last so many years stays.
    type: int
  keep_within:
    description: All that were made so long before the newest one stay (C(30d)).
    type: str
  keep_snapshot:
    description:
      - Of RBD images the snapshot of a backup stays, so that the next one reads only what was
        written since.
    type: bool
    default: false
  verify:
    description: Each backup is read through once it is made.
    type: bool
    default: false
  live:
    description: The QEMU of a running libvirt domain keeps the moment, also where the place of
      its image has snapshots.
    type: bool
    default: false
  quiesce:
    description: File systems of guests that run are frozen for that moment. With V(try) also
      where no agent answers.
    type: str
    choices: ["false", "true", try]
    default: "false"
  no_snapshot:
    description: Only images that nobody writes to are backed up.
    type: bool
    default: false
  jobs:
    description: So many images at a time.
    type: int
  bwlimit:
    description: What is moved at the most in a second for each image (C(10M)).
    type: str
  nice:
    description: Processor and disks are left to others, on both hosts.
    type: bool
    default: false
seealso:
  - module: virtstore.storage.copy
"""

EXAMPLES = r"""
- name: There is a backup of today
  virtstore.storage.backup:
    sources: [/srv/images, /dev/vg0/db]
    directory: "backup-host:/srv/backups/{{ inventory_hostname }}"
    max_age: 20h
    quiesce: try

- name: The job was done before the upgrade
  virtstore.storage.backup:
    job: nightly
"""

RETURN = r"""
backups:
  description:
    - What C(virtstore backup) told of each image that was backed up, or would be.
      RV(backups[].error) is null where
      that went well.
  returned: always
  type: list
  elements: dict
  sample: [{source: /srv/images/web.img, target:
    "b:/srv/backups/a/web.2026-11-28T020000Z.img.zst", size: 21474836480,
    transferred: 1048576, base: null, seconds: 1.2, error: null}]
recent:
  description: The images that were left out, since their newest backup is recent enough.
  returned: with O(max_age)
  type: list
  elements: str
  sample: [/dev/vg0/db]
error:
  description: What virtstore told of the first failure.
  returned: failure
  type: dict
  sample: {code: in-use, message: somebody uses it, host: local, path: /srv/images/web.img}
"""

import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtstore.storage.plugins.module_utils import locations
from ansible_collections.virtstore.storage.plugins.module_utils.failure import (
    Failure,
    failure_in,
)
from ansible_collections.virtstore.storage.plugins.module_utils.outcome import (
    COMMON,
    Outcome,
    conclude,
    missing,
)
from ansible_collections.virtstore.storage.plugins.module_utils.running import (
    Answer,
    Module,
    Virtstore,
    options,
    quiescing,
)

_KEEP = [
    f"keep_{rule}" for rule in ("last", "hourly", "daily", "weekly", "monthly", "yearly", "within")
]
_FLAGS = ["keep_snapshot", "verify", "live", "no_snapshot", "nice"]

ARGUMENTS: dict[str, dict[str, Any]] = {
    "sources": {"type": "list", "elements": "str"},
    "directory": {"type": "str"},
    "job": {"type": "str"},
    "max_age": {"type": "str"},
    "include": {"type": "list", "elements": "str"},
    "exclude": {"type": "list", "elements": "str"},
    **{name: {"type": "str" if name == "keep_within" else "int"} for name in _KEEP},
    **{name: {"type": "bool", "default": False} for name in _FLAGS},
    "quiesce": {"type": "str", "choices": ["false", "true", "try"], "default": "false"},
    "jobs": {"type": "int"},
    "bwlimit": {"type": "str"},
}

#: Of a backup: the directory, and what its image is called in there.
_BACKUP = re.compile(
    r"(?P<directory>.*)/(?P<name>[^/]+)\.\d{4}-\d\d-\d\dT\d{6}Z\.img\.zst", re.DOTALL
)


def work(module: Module, virtstore: Virtstore) -> Outcome:
    """Raises Failure."""
    words = asked(module)
    if module.params["max_age"] is None:
        return made(virtstore, virtstore.change("backup", *words))
    planned: list[Answer] = virtstore.plan("backup", *words)
    directory: str = module.params["directory"] or directory_of(planned)
    late = late_series(virtstore, directory, module.params["max_age"]) if directory else {}
    failed, due, recent = parted(planned, late)
    told = {"recent": recent}
    if not due and not failed:
        return Outcome(False, result={"backups": [], **told})
    if module.params["job"] is not None:
        return made(virtstore, virtstore.change("backup", *words), told)
    backups: list[Answer] = []
    if due:
        words = [*backup_options(module, narrowed=True), *map(_literal, due), directory]
        backups = virtstore.change("backup", *words)
    return made(virtstore, [*failed, *backups], told)


def asked(module: Module) -> list[str]:
    """The words of the command for all that is to be backed up. Raises Failure."""
    job: str | None = module.params["job"]
    sources: list[str] = module.params["sources"]
    directory: str = module.params["directory"]
    how = backup_options(module)
    if job is not None:
        if how:
            raise Failure("usage", f"the job {job} says all that is done; leave {how[0]} out")
        return [f"--job={job}"]
    if not sources:
        raise Failure(
            "usage", "'sources' is empty: name images, or directories or volume groups of them"
        )
    locations.check(*sources, directory)
    return [*how, *sources, directory]


def backup_options(module: Module, *, narrowed: bool = False) -> list[str]:
    """`narrowed`: of images that are named one by one, to which no pattern matters."""
    patterns = [] if narrowed else ["include", "exclude"]
    words = options(module, _FLAGS, [*_KEEP, *patterns, "jobs", "bwlimit"])
    return [*words, *quiescing(module)]


def made(
    virtstore: Virtstore, backups: list[Answer], told: dict[str, Any] | None = None
) -> Outcome:
    """What became of each backup."""
    there = [each for each in backups if each["error"] is None]
    gone = [path for each in backups for path in each.get("pruned", ())]
    failures = failures_of(virtstore, backups)
    before = {"backups": gone} if gone else {}
    after = {"backups": [each["target"] for each in there]}
    result = {"backups": backups, **(told or {})}
    changed = bool(there or gone) or (virtstore.check_mode and not failures)
    return Outcome(changed, before, after, result, _first_of(failures, len(backups)))


def failures_of(virtstore: Virtstore, backups: list[Answer]) -> list[Failure]:
    """Why images have no backup. In check mode an earlier task may be about to make what is
    missing, which is a warning."""
    failures = [failure for each in backups if (failure := failure_in(each))]
    if not virtstore.check_mode:
        return failures
    for each in failures:
        if each.code == "not-found":
            virtstore.warn(missing(each))
    return [each for each in failures if each.code != "not-found"]


def _first_of(failures: list[Failure], count: int) -> Failure | None:
    if not failures:
        return None
    first = failures[0]
    if count > 1:
        first.message += f" ({len(failures)} of {count} images have no new backup)"
    return first


def directory_of(planned: list[Answer]) -> str:
    """The directory of planned backups; empty where there are none."""
    for each in planned:
        if found := _BACKUP.fullmatch(each["target"] or ""):
            return found["directory"]
    return ""


def late_series(virtstore: Virtstore, directory: str, max_age: str) -> dict[str, bool]:
    """Of the series in a directory of backups, whether each is late."""
    series: list[Answer] = virtstore.ask("backups", f"--max-age={max_age}", directory)
    return {each["name"]: each["late"] for each in series}


def parted(
    planned: list[Answer], late: dict[str, bool]
) -> tuple[list[Answer], list[str], list[str]]:
    """What could not be planned, the sources that are due, and those whose newest backup is recent
    enough."""
    failed = [each for each in planned if failure_in(each)]
    due: list[str] = []
    recent: list[str] = []
    for each in planned:
        if failure_in(each):
            continue
        found = _BACKUP.fullmatch(each["target"] or "")
        fresh = found is not None and not late.get(found["name"], True)
        (recent if fresh else due).append(each["source"])
    return failed, due, recent


def _literal(source: str) -> str:
    """A location that virtstore does not take for several, as one with braces would be."""
    if re.search(r"\{[^{}]*,[^{}]*\}", source):
        raise Failure(
            "usage", f"{source}: 'max_age' cannot single out an image with braces in its name"
        )
    return source


def main() -> None:
    module = AnsibleModule(
        argument_spec={**COMMON, **ARGUMENTS},
        supports_check_mode=True,
        required_one_of=[("sources", "job")],
        mutually_exclusive=[("sources", "job"), ("directory", "job")],
        required_together=[("sources", "directory")],
    )
    conclude(module, work)


if __name__ == "__main__":
    main()
