#!/usr/bin/python
"""The module C(virtstore.storage.facts)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: facts
short_description: What storage hosts have, and which images
version_added: 0.1.0
author: The virtstore project
description:
  - Asks hosts for their storage, and for the images in it. They are asked by one command.
extends_documentation_fragment: virtstore.storage.common
options:
  hosts:
    description: Hosts as virtstore takes them (C(a), C(root@b), C(ssh://c:2222)), or C(local:)
      where the task runs.
    type: list
    elements: str
    default: ["local:"]
  images:
    description: Whether the images are listed as well.
    type: bool
    default: true
  recursive:
    description: Whether those in subdirectories are.
    type: bool
    default: false
  unreachable:
    description:
      - What a host means that cannot be reached, or tells nothing. With V(fail) the task fails,
        and says of each such
        host why. With V(report) it is a warning, and RV(ansible_facts.virtstore.unreachable) says
          so.
    type: str
    choices: [fail, report]
    default: fail
attributes:
  facts:
    description: Tells facts.
    support: full
"""

EXAMPLES = r"""
- name: What the hosts have
  virtstore.storage.facts:
    hosts: [a, b]
    unreachable: report

- name: There is room
  ansible.builtin.assert:
    that: item.free > 100 * 1024**3
  loop: "{{ ansible_facts.virtstore.hosts.a.storage.directories }}"
  loop_control:
    label: "{{ item.path }}"
"""

RETURN = r"""
ansible_facts:
  description: What is known of the hosts.
  returned: success
  type: dict
  contains:
    virtstore:
      description: The hosts, and those that did not answer.
      returned: success
      type: dict
      contains:
        hosts:
          description:
            - Of each host, as the task names it, C(storage), which is what C(virtstore
              storage-info) tells, and
              C(images), what C(virtstore list -l) tells of the images in its roots.
          returned: success
          type: dict
        unreachable:
          description: Of each host that did not answer the C(code), C(message), C(host) and
            C(path) of the failure.
          returned: success
          type: dict
error:
  description: What virtstore told of the first failure.
  returned: failure
  type: dict
  sample: {code: connection, message: no session could be opened, host: b, path: null}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtstore.storage.plugins.module_utils import locations
from ansible_collections.virtstore.storage.plugins.module_utils.failure import (
    Failure,
    failure_in,
    spelled,
)
from ansible_collections.virtstore.storage.plugins.module_utils.outcome import (
    COMMON,
    Outcome,
    conclude,
)
from ansible_collections.virtstore.storage.plugins.module_utils.running import (
    Answer,
    Module,
    Virtstore,
)

ARGUMENTS: dict[str, dict[str, Any]] = {
    "hosts": {"type": "list", "elements": "str", "default": ["local:"]},
    "images": {"type": "bool", "default": True},
    "recursive": {"type": "bool", "default": False},
    "unreachable": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
}


#: What a listing has besides images.
_NO_IMAGES = ("directory", "volume-group", "rbd-pool", "bucket", "other")


def work(module: Module, virtstore: Virtstore) -> Outcome:
    """Raises Failure."""
    hosts: list[str] = list(dict.fromkeys(module.params["hosts"]))
    locations.check(*hosts)
    storage, failures = told_of_each(virtstore, hosts)
    facts: dict[str, Answer] = {host: {"storage": each} for host, each in storage.items()}
    if module.params["images"]:
        for host, images in listed(
            virtstore, storage, failures, module.params["recursive"]
        ).items():
            facts[host]["images"] = images
    if failures and module.params["unreachable"] == "fail":
        raise first_of(failures, len(hosts))
    for host, failure in failures.items():
        virtstore.warn(f"{host}: {failure.message}")
    unreachable = {host: failure.told() for host, failure in failures.items()}
    told = {"virtstore": {"hosts": facts, "unreachable": unreachable}}
    return Outcome(False, result={"ansible_facts": told})


def told_of_each(
    virtstore: Virtstore, hosts: list[str]
) -> tuple[dict[str, Answer], dict[str, Failure]]:
    """The storage of each host that tells of it, and why others do not."""
    try:
        answer = virtstore.ask("storage-info", *hosts)
    except Failure as failure:
        if len(hosts) > 1 or failure.code == "usage":
            raise
        return {}, {hosts[0]: failure}
    answers = [answer] if len(hosts) == 1 else answer
    storage: dict[str, Answer] = {}
    failures: dict[str, Failure] = {}
    for host, each in zip(hosts, answers):
        if unanswered := failure_in(each):
            failures[host] = unanswered
        else:
            storage[host] = each
    return storage, failures


def roots(storage: Answer) -> list[str]:
    """The locations of all roots of a host: whatever kind they are of, each has an access."""
    return [
        spelled(storage["host"], root["path"])
        for told in storage.values()
        if isinstance(told, list)
        for root in told
        if isinstance(root, dict) and "access" in root
    ]


def listed(
    virtstore: Virtstore,
    storage: dict[str, Answer],
    failures: dict[str, Failure],
    recursive: bool,
) -> dict[str, list[Answer]]:
    """The images of each host. A root that cannot be listed is a failure of its host."""
    names = {each["host"]: host for host, each in storage.items()}
    images: dict[str, list[Answer]] = {host: [] for host in storage}
    wanted = [root for each in storage.values() for root in roots(each)]
    if not wanted:
        return images
    for each in _entries(virtstore, ["--recursive"] * recursive, wanted):
        if each.get("type") in _NO_IMAGES:
            continue
        failure = failure_in(each)
        if failure:
            failures.setdefault(names.get(failure.host or "", failure.host or ""), failure)
        else:
            images[names[each["host"]]].append(each)
    return images


def _entries(virtstore: Virtstore, how: list[str], wanted: list[str]) -> list[Answer]:
    """What there is in all of those locations, failures among it."""
    try:
        entries: list[Answer] = virtstore.ask("list", "--long", *how, *wanted)
    except Failure as failure:
        return [{"error": failure.told()}]
    return entries


def first_of(failures: dict[str, Failure], count: int) -> Failure:
    """The failure of a task, of `count` hosts, some of which did not answer."""
    [first, *_] = failures.values()
    if count == 1:
        return first
    why = "; ".join(f"{host}: {failure.message}" for host, failure in failures.items())
    message = f"{len(failures)} of {count} hosts did not answer: {why}"
    return Failure(first.code, message, None if len(failures) > 1 else first.host)


def main() -> None:
    module = AnsibleModule(argument_spec={**COMMON, **ARGUMENTS}, supports_check_mode=True)
    conclude(module, work)


if __name__ == "__main__":
    main()
