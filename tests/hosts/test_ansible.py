"""The modules of the collection, each as Ansible runs it, between two hosts: what they change, what
they leave alone, and that check mode tells what a run would do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ..ansible_task import Tasks
from . import processes
from .command import Client
from .conftest import Hosts, random_image
from .sshd import Remote
from .trees import MIB


@pytest.fixture
def tasks(client: Client) -> Tasks:
    return Tasks(client.environment)


def test_an_image_is_made_of_another_resized_with_what_is_in_it_and_removed(
    tasks: Tasks, a: Remote, b: Remote, ext4: Path
) -> None:
    os.link(ext4, a.golden / "golden.img")
    web = b.images / "web.img"
    wanted = {"location": b.at(web), "source": a.at(a.golden / "golden.img")}
    made = tasks.done_once("image", **wanted, size="40M", resize="filesystem")
    assert made["diff"] == {
        "before": {"state": "absent"},
        "after": {"state": "present", "size": 40 * MIB},
    }
    assert made["image"]["filesystem"]["size"] == 40 * MIB
    less = tasks.foretold("image", **wanted, size="30M", resize="filesystem")
    assert (less["error"]["code"], "shrink: true" in less["msg"]) == ("unsafe", True)
    assert web.stat().st_size == 40 * MIB
    smaller = {**wanted, "size": "30M", "shrink": True}
    tasks.refused("image", "unsafe", **smaller)  # the file system ends behind that
    shrunk = tasks.done_once("image", **smaller, resize="filesystem")
    assert shrunk["diff"]["before"]["filesystem"] == 40 * MIB
    assert shrunk["diff"]["after"]["filesystem"] == 30 * MIB
    gone = tasks.foretold("image", location=b.at(web), state="absent")
    assert (gone["changed"], gone["image"]) == (True, None)
    assert not web.exists()


def test_an_image_grows_alone_and_a_task_that_says_how_much_more_is_refused(
    tasks: Tasks, hosts: Hosts, ext4: Path
) -> None:
    (disk := hosts.local / "disk.img").write_bytes(ext4.read_bytes())
    grown = tasks.done_once("image", location=str(disk), size=32 * MIB)
    assert grown["diff"]["after"] == {"state": "present", "size": 32 * MIB}
    assert grown["image"]["filesystem"]["size"] == 24 * MIB
    filled = tasks.run("image", location=str(disk), size="32M", resize="filesystem")
    assert filled["diff"]["before"]["filesystem"] == 24 * MIB
    assert "+SIZE" in tasks.refused("image", "usage", location=str(disk), size="+1M")["message"]
    assert not tasks.run("image", location=str(disk))["changed"]
    tasks.refused("image", "usage", location=str(hosts.local / "none.img"))
    tasks.refused("image", "usage", location="--config=/x", state="absent")


def test_an_image_that_somebody_uses_stays_and_the_task_says_who(
    tasks: Tasks, hosts: Hosts
) -> None:
    disk = random_image(hosts.local / "disk.img", MIB)
    with disk.open("r+b"):
        error = tasks.foretold("image", location=str(disk), state="absent")["error"]
    assert (error["code"], error["host"], error["path"]) == ("in-use", "local", str(disk))
    assert "process" in error["message"]
    assert disk.exists()


def test_a_copy_is_made_once_and_again_where_it_differs(tasks: Tasks, a: Remote, b: Remote) -> None:
    golden = random_image(a.golden / "golden.img", 2 * MIB)
    archive = b.images / "golden.img.zst"
    copy = {"source": a.at(golden), "target": b.at(b.images), "archive": True}
    done = tasks.done_once("copy", **copy)
    assert done["location"] == b.at(archive)
    assert done["copy"]["size"] == 2 * MIB
    random_image(golden, 2 * MIB, seed=2)
    was = archive.read_bytes()
    kept = tasks.run("copy", **copy)
    assert (kept["changed"], kept["location"]) == (False, b.at(archive))
    assert archive.read_bytes() == was
    renewed = tasks.foretold("copy", **copy, overwrite=True)
    assert (renewed["changed"], renewed["different"]) == (True, 2 * MIB)
    assert archive.read_bytes() != was
    assert not tasks.run("copy", **copy, overwrite=True)["changed"]


def test_the_contents_of_a_larger_image_are_renewed_in_place(tasks: Tasks, hosts: Hosts) -> None:
    golden = random_image(hosts.local / "golden.img", MIB)
    target = random_image(hosts.local / "kiosk.img", 2 * MIB, seed=2)
    node = target.stat().st_ino
    renew = {"source": str(golden), "target": str(target), "contents": True}
    tasks.done_once("copy", **renew)
    assert target.read_bytes() == golden.read_bytes() + bytes(MIB)
    assert target.stat().st_ino == node


def test_backups_are_made_of_what_has_no_recent_one(tasks: Tasks, a: Remote, b: Remote) -> None:
    for name in ("web", "db"):
        random_image(a.images / f"{name}.img", MIB)
    (backups := b.images / "nightly").mkdir()
    every = {"sources": [a.at(a.images)], "directory": b.at(backups)}
    one = {"sources": [a.at(a.images / "db.img")], "directory": b.at(backups)}
    assert tasks.run("backup", **one)["changed"]
    done = tasks.checked("backup", **every, max_age="1h")
    assert [each["source"] for each in done["backups"]] == [a.at(a.images / "web.img")]
    assert done["recent"] == [a.at(a.images / "db.img")]
    assert len(list(backups.iterdir())) == 1
    assert tasks.run("backup", **every, max_age="1h")["changed"]
    assert len(list(backups.glob("web.*.img.zst"))) == 1
    done = tasks.run("backup", **every, max_age="1h", keep_last=1)
    assert (done["changed"], done["backups"], len(done["recent"])) == (False, [], 2)
    pruned = tasks.run("backup", **one, keep_last=1)
    assert len(pruned["diff"]["before"]["backups"]) == 1
    assert len(list(backups.iterdir())) == 2


def test_a_backup_that_fails_fails_the_task_and_the_others_are_made(
    tasks: Tasks, hosts: Hosts
) -> None:
    good = random_image(hosts.local / "good.img", MIB)
    (backups := hosts.local / "backups").mkdir()
    sources = [str(hosts.local / "none.img"), str(good)]
    failed = tasks.run("backup", sources=sources, directory=str(backups))
    assert failed["changed"]
    assert failed["error"]["code"] == "not-found"
    assert "1 of 2" in failed["msg"]
    assert len(list(backups.glob("good.*.img.zst"))) == 1


def test_images_that_no_pattern_fits_are_never_backed_up(tasks: Tasks, hosts: Hosts) -> None:
    (images := hosts.local / "images").mkdir()
    random_image(images / "web.img", MIB)
    (backups := hosts.local / "backups").mkdir()
    wanted = {"sources": [str(images)], "directory": str(backups), "max_age": "1h"}
    checked = tasks.checked("backup", **wanted, include=["db*"])
    assert (checked.get("failed", False), len(checked["warnings"])) == (False, 1)
    error = tasks.refused("backup", "not-found", **wanted, include=["db*"])
    assert "--include" in error["message"]
    both = {**wanted, "sources": [str(images), str(images / "none.img")]}
    failed = tasks.run("backup", **both)
    assert (failed["error"]["code"], failed["changed"]) == ("not-found", True)
    assert [each["error"] is None for each in failed["backups"]] == [False, True]
    assert len(list(backups.iterdir())) == 1


def test_facts_tell_what_the_hosts_have_and_which_did_not_answer(
    tasks: Tasks, a: Remote, b: Remote
) -> None:
    random_image(a.images / "web.img", MIB)
    asked = {"hosts": ["a", "nowhere", "b"]}
    facts = tasks.run("facts", **asked, unreachable="report")["ansible_facts"]["virtstore"]
    assert list(facts["hosts"]) == ["a", "b"]
    assert facts["unreachable"]["nowhere"]["code"] == "connection"
    [image] = facts["hosts"]["a"]["images"]
    assert (image["path"], image["size"]) == (str(a.images / "web.img"), MIB)
    roots = facts["hosts"]["b"]["storage"]["directories"]
    assert str(b.images) in {root["path"] for root in roots}
    failed = tasks.run("facts", **asked, images=False)
    assert failed["error"]["code"] == "connection"
    assert "1 of 3 hosts did not answer: nowhere: " in failed["msg"]


def test_check_mode_warns_of_what_an_earlier_task_may_be_about_to_make(
    tasks: Tasks, hosts: Hosts
) -> None:
    missing = {"location": str(hosts.local / "none.img"), "name": "none-s1"}
    checked = tasks.checked("snapshot", **missing)
    assert checked["changed"]
    assert "no such image" in checked["warnings"][0]
    assert tasks.run("snapshot", **missing)["error"]["code"] == "not-found"
    backup = {"sources": [missing["location"]], "directory": str(hosts.local)}
    checked = tasks.checked("backup", **backup)
    assert (checked["changed"], len(checked["warnings"])) == (True, 1)


def test_a_directory_is_never_taken_for_an_image_that_is_there_or_gone(
    tasks: Tasks, hosts: Hosts
) -> None:
    disk = random_image(hosts.local / "disk.img", MIB)
    (taken := hosts.local / "images" / "disk.img").mkdir(parents=True)
    tasks.refused("image", "usage", location=str(taken), state="absent")
    tasks.refused("copy", "exists", source=str(disk), target=str(taken.parent))
    assert not tasks.run("image", location=str(taken / "x.img"), state="absent")["changed"]


def _cut_short(hosts: Hosts, client: Client, *words: str) -> None:
    """Begin a copy and cut it short: agents end a moment after it, and hold locks until then."""
    under_way = client.under_way(*words, "--bwlimit", "1M", until=MIB)
    under_way.ctrl_c()
    under_way.end().error("interrupted")
    assert not processes.are_gone(hosts.directory)


def test_contents_that_were_cut_are_finished(
    tasks: Tasks, client: Client, hosts: Hosts, b: Remote
) -> None:
    source = random_image(b.images / "source.img", 4 * MIB)
    target = random_image(b.images / "target.img", 4 * MIB, seed=2)
    copy = {"source": b.at(source), "target": b.at(target)}
    _cut_short(hosts, client, "copy-contents", *copy.values())
    tasks.refused("copy", "exists", **copy)
    assert tasks.run("copy", **copy, contents=True)["changed"]
    assert target.read_bytes() == source.read_bytes()


def test_what_was_cut_is_gone_on_with_or_removed(
    tasks: Tasks, client: Client, hosts: Hosts, b: Remote
) -> None:
    source = random_image(b.images / "source.img", 4 * MIB)
    target = b.images / "target.img"
    for wanted in ({"source": b.at(source)}, {"state": "absent"}):
        _cut_short(hosts, client, "copy", b.at(source), b.at(target))
        assert client.json("info", b.at(target))["state"] == "partial"
        done = tasks.run("image", location=b.at(target), **wanted)
        assert done["changed"], done
        assert target.exists() == ("source" in wanted)
        assert client.run("delete", b.at(target)).status == (0 if "source" in wanted else 3)


def test_a_machine_without_virtstore_is_told_what_to_do(tasks: Tasks) -> None:
    error = tasks.refused("facts", "not-installed", executable="virtstore-that-is-not-there")
    assert "delegate_to" in error["message"]
