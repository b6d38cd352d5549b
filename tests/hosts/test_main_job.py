"""The job virtstore is there for, from the command line, over real ssh: images are made,
filled, grown, backed up, restored, compared and removed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .command import Client
from .conftest import CONTENTS, Hosts, random_image
from .sshd import Remote, find
from .trees import MIB, digest_of


def fsck(image: Path) -> None:
    program = find("e2fsck")
    assert program
    done = subprocess.run([program, "-fn", str(image)], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def same(one: Path, other: Path, length: int | None = None) -> bool:
    limit = [] if length is None else ["-n", str(length)]
    return subprocess.run(["cmp", *limit, str(one), str(other)], check=False).returncode == 0


def test_an_image_lives_from_create_to_delete(
    client: Client, a: Remote, b: Remote, ext4: Path
) -> None:
    golden, web = a.golden / "golden.img", a.images / "web.img"
    shutil.copy(ext4, golden)
    assert client.json("create", a.at(web), "40M")["size"] == 40 * MIB
    assert web.stat().st_blocks * 512 >= 40 * MIB
    told = client.json("copy-contents", a.at(golden), a.at(web))
    assert (told["size"], told["transferred"]) == (24 * MIB, 0)
    assert same(golden, web, 24 * MIB)
    assert not any(web.read_bytes()[24 * MIB :])
    assert client.json("growfs", a.at(web))["filesystem"]["size"] == 40 * MIB
    fsck(web)
    backup = b.images / "backup23"
    told = client.json("copy", "--archive", a.at(web), b.at(backup))
    assert told["digest"] == digest_of(web)
    assert 3 * MIB < told["transferred"] <= told["written"] == backup.stat().st_size < 4 * MIB
    assert client.json("verify", b.at(backup))["digest"] == digest_of(web)
    restored = a.images / "restored.img"
    told = client.json("copy", b.at(backup), a.at(restored))
    assert same(web, restored)
    assert told["digest"] == digest_of(restored)
    fsck(restored)
    assert client.json("diff", a.at(web), a.at(restored))["different"] == 0
    assert client.json("delete", a.at(web))["changed"]
    assert [e["path"] for e in client.json("list", a.at(a.images))] == [str(restored)]


def test_restoring_a_backup_moves_only_what_changed(
    client: Client, a: Remote, b: Remote, ext4: Path
) -> None:
    web, backup = a.images / "web.img", b.images / "backup"
    shutil.copy(ext4, web)
    client.json("copy", "--archive", a.at(web), b.at(backup))
    with web.open("r+b") as file:
        file.seek(ext4.read_bytes().index(CONTENTS[:4096]))
        file.write(b"ransom" * 100)
    told = client.json("copy-contents", b.at(backup), a.at(web))
    assert same(web, ext4)
    assert 0 < told["written"] <= MIB
    assert 0 < told["transferred"] < 1.1 * MIB < backup.stat().st_size
    assert told["digest"] == digest_of(ext4)


def test_an_image_is_compressed_and_uncompressed_where_it_lies(
    client: Client, a: Remote, ext4: Path
) -> None:
    web = a.images / "web.img"
    shutil.copy(ext4, web)
    told = client.json("compress", a.at(web))
    archive = a.images / "web.img.zst"
    assert told["path"] == str(archive)
    assert [p.name for p in a.images.iterdir()] == ["web.img.zst"]
    info = client.json("info", a.at(archive))
    assert (info["compression"], info["size"], info["host"]) == ("zstd", 24 * MIB, "a")
    out = subprocess.run(["zstd", "-dcq", str(archive)], capture_output=True, check=True).stdout
    assert out == ext4.read_bytes()
    assert client.json("uncompress", a.at(archive))["path"] == str(web)
    assert [p.name for p in a.images.iterdir()] == ["web.img"]
    assert same(web, ext4)


def test_info_and_list_say_what_is_there(client: Client, a: Remote, ext4: Path) -> None:
    shutil.copy(ext4, a.images / "web.img")
    (a.images / "more").mkdir()
    info = client.json("info", a.at(a.images / "web.img"))
    assert (info["type"], info["size"], info["state"]) == ("file", 24 * MIB, "complete")
    assert (info["filesystem"]["type"], info["filesystem"]["label"]) == ("ext4", "golden")
    assert info["filesystem"]["size"] == 24 * MIB
    entries = {Path(e["path"]).name: e for e in client.json("list", "-l", a.at(a.images))}
    assert entries["more"]["type"] == "directory"
    assert entries["web.img"]["filesystem"]["type"] == "ext4"
    roots = [e["path"] for e in client.json("list", "a:")]
    assert str(a.images) in roots
    assert str(a.outside) not in roots


def test_this_machine_is_one_of_the_hosts(client: Client, hosts: Hosts, ext4: Path) -> None:
    here, there = hosts.local / "web.img", hosts.a.images / "web.img"
    shutil.copy(ext4, here)
    up = client.json("copy", here, hosts.a.at(there))
    assert same(here, there)
    assert (up["source"], up["target"]) == (str(here), f"a:{there}")
    assert up["digest"] == digest_of(here)
    back = hosts.local / "back"
    client.json("copy", "--archive", hosts.a.at(there), back)
    across = client.json("copy", back, hosts.b.at(hosts.b.images))
    assert across["target"] == f"b:{hosts.b.images}/back"
    assert same(here, hosts.b.images / "back")
    assert client.json("diff", here, hosts.b.at(hosts.b.images / "back"))["different"] == 0


def test_a_client_moves_an_image_between_two_other_hosts(
    client: Client, hosts: Hosts, a: Remote, b: Remote
) -> None:
    source = random_image(a.images / "noise", 5 * MIB + 100)
    told = client.json("copy", a.at(source), b.at(b.images / "noise"))
    assert same(source, b.images / "noise")
    assert told["size"] == 5 * MIB + 100
    assert 5 * MIB < told["transferred"] < 6 * MIB
    assert told["digest"] == digest_of(source)
    assert not list(hosts.local.iterdir())


def test_a_copy_within_one_host_moves_nothing_over_the_wire(client: Client, a: Remote) -> None:
    source = random_image(a.images / "noise", 3 * MIB)
    told = client.json("copy", a.at(source), a.at(a.images / "again"))
    assert same(source, a.images / "again")
    assert (told["transferred"], told["written"]) == (0, 3 * MIB)
    assert told["digest"] == digest_of(source)


def test_a_stopped_image_that_differs_little_is_overwritten_cheaply(
    client: Client, a: Remote, b: Remote
) -> None:
    source = random_image(a.images / "disk", 8 * MIB)
    target = b.images / "disk"
    target.write_bytes(source.read_bytes() + b"x" * MIB)
    with target.open("r+b") as file:
        file.seek(3 * MIB + 17)
        file.write(b"changed")
    told = client.json("copy-contents", a.at(source), b.at(target))
    assert same(source, target, 8 * MIB)
    assert target.read_bytes()[8 * MIB :] == bytes(MIB)
    assert told["transferred"] < 1.1 * MIB
    assert told["digest"] == digest_of(source)


def test_diff_tells_how_much_differs_between_hosts(client: Client, a: Remote, b: Remote) -> None:
    source = random_image(a.images / "disk", 3 * MIB)
    target = random_image(b.images / "disk", 3 * MIB)
    with target.open("r+b") as file:
        file.seek(MIB + 8192)
        file.write(b"changed")
    differ = client.run("diff", a.at(source), b.at(target), "--json")
    assert (differ.status, differ.stderr) == (1, "")
    told = differ.json
    assert (told["different"], told["size"]) == (4096, 3 * MIB)


def test_every_archive_format_comes_back(client: Client, a: Remote, b: Remote) -> None:
    disk = random_image(a.images / "disk", MIB + 5)
    disk.write_bytes(bytes(MIB) + disk.read_bytes())
    source = a.at(disk)
    for form in ("lz4", "lzop", "gzip", "xz"):
        archive, image = b.images / f"x.{form}", a.images / f"{form}.img"
        made = client.json("copy", "--archive", "--format", form, source, b.at(archive))
        assert client.json("info", b.at(archive))["compression"] == form
        back = client.json("copy", b.at(archive), a.at(image))
        assert same(image, disk)
        assert made["digest"] == back["digest"] == digest_of(disk)
