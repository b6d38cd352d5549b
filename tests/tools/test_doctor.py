"""What `doctor` says of a real host: nothing of a healthy one, and what to do of any other."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

import virtstore
from virtstore.agent import locks

from . import test_agent_commands as commands

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts and gives files away")

AGENT: Final = shlex.join([sys.executable, "-P", "-m", "virtstore.agent"])
DAY: Final = 86400


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty root, of a host that writes down what is done there."""
    (tmp_path / "images").mkdir(mode=0o700)
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(tmp_path / "config.toml"))
    configure(tmp_path / "images")
    return tmp_path / "images"


def configure(*roots: Path, more: str = "", log: str = "none") -> None:
    text = "".join(f'[[directory]]\npath = "{root}"\naccess = "write"\n{more}' for root in roots)
    Path(os.environ["VIRTSTORE_CONFIG"]).write_text(f'log = "{log}"\n{text}')


def started_by(monkeypatch: pytest.MonkeyPatch, line: str, *unshare: str) -> None:
    """Agents start in namespaces of their own, once a shell has run `line` there."""
    argv = ["unshare", *(unshare or ("--mount",)), "sh", "-ec", f"{line}\nexec {AGENT}"]
    monkeypatch.setenv("VIRTSTORE_AGENT", shlex.join(argv))


def findings(*words: object, status: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = commands.told("doctor", *words, status=status)
    assert all(set(each) == {"host", "severity", "what", "remedy"} for each in found)
    assert all(each["remedy"] for each in found if each["severity"] != "ok"), found
    return found


def found(severity: str, *, status: int) -> str:
    """What there is of a severity, as lines."""
    told = findings(status=status)
    return "\n".join(each["what"] for each in told if each["severity"] == severity)


def test_a_healthy_host_has_nothing_to_be_told(images: Path) -> None:
    assert {each["severity"] for each in findings(status=0)} == {"ok"}
    shown = commands.virtstore("doctor").stdout
    assert shown.endswith("other things are in order (--verbose shows them)\n")
    assert shown.count("\n") == 1
    assert f"local: ok: {images}: " in commands.virtstore("doctor", "--verbose").stdout


def test_a_host_is_examined_in_python(images: Path) -> None:
    with virtstore.connect() as host:
        told = host.doctor()
    assert all(isinstance(each, virtstore.Finding) and each.host == "local" for each in told)
    assert not any(each.is_wrong for each in told)


def test_the_worst_is_said_first_and_its_remedy_below(images: Path) -> None:
    (images / "x.img.virtstore-partial").write_bytes(b"x")
    os.utime(images / "x.img.virtstore-partial", (0, 0))
    configure(images, Path("/nonexistent"))
    first, remedy, second, *_ = commands.virtstore("doctor", status=1).stdout.splitlines()
    assert first.startswith("local: problem: /nonexistent: ")
    assert remedy.startswith("    mend that")
    assert second.startswith(f"local: warning: {images}: interrupted operations left 1")


@as_root
def test_a_full_file_system_is_a_problem(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = f"mount -t tmpfs -o size=4M,mode=700 none {images}"
    started_by(monkeypatch, f"{mount}; head -c 4092K /dev/zero >{images}/x.img")
    configure(images, more="volatile = true\n")
    assert f"{images}: 4 KiB of 4 MiB are free" in found("problem", status=1)
    started_by(monkeypatch, f"{mount}; head -c 3952K /dev/zero >{images}/x.img")
    assert f"{images}: 144 KiB of 4 MiB are free" in found("warning", status=1)
    started_by(monkeypatch, mount)
    assert "in memory" in found("note", status=0)


@as_root
def test_a_file_system_without_inodes_is_told(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = f"mount -t tmpfs -o size=40M,nr_inodes=2000,mode=700 none {images}"
    started_by(monkeypatch, f"{mount}; cd {images}; seq 1990 | xargs touch; cd /")
    configure(images, more="volatile = true\n")
    assert "9 of 2000 inodes are free" in found("warning", status=1)


@as_root
def test_what_was_mounted_read_only_is_a_problem(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_by(monkeypatch, f"mount -t tmpfs -o ro,mode=700 none {images}")
    configure(images, more="volatile = true\n")
    assert f"{images} is mounted read-only" in found("problem", status=1)


@as_root
def test_a_root_that_belongs_to_another_user_is_a_problem(images: Path) -> None:
    os.chown(images, 65534, 65534)
    assert f"{images}: this root belongs to another user (nobody" in found("problem", status=1)


@as_root
def test_a_root_to_which_the_agents_user_cannot_write_is_a_problem(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.chmod(0o500)
    as_others = ["setpriv", "--bounding-set=-dac_override"]  # modes count for this root, too
    monkeypatch.setenv("VIRTSTORE_AGENT", shlex.join([*as_others, *shlex.split(AGENT)]))
    told = found("problem", status=1)
    assert f"{images}: this agent's user may not make files there" in told


def test_what_is_missing_is_named_with_what_it_is_for(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(images))
    told = findings(status=1)
    missing = {each["what"]: each["remedy"] for each in told if " missing; " in each["what"]}
    bubblewrap = next(what for what in missing if what.startswith("bwrap is missing"))
    assert "nothing is known of what is in an image" in bubblewrap
    assert missing[bubblewrap] == "install it (Debian: apt install bubblewrap)"
    assert "lzop is missing; it is for archives in lzop" in missing
    severities = {each["what"]: each["severity"] for each in told}
    assert severities[bubblewrap] == "problem"
    assert severities["lzop is missing; it is for archives in lzop"] == "note"


def test_a_bubblewrap_that_may_do_nothing_is_a_problem(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid = "echo 0 >/proc/sys/user/max_mnt_namespaces"
    started_by(monkeypatch, forbid, "--user", "--map-root-user")
    assert "bubblewrap does not work here" in found("problem", status=1)


def test_what_an_interruption_left_is_told_after_a_day(images: Path) -> None:
    (images / "sub").mkdir(mode=0o700)
    partial = images / "sub" / "web.img.virtstore-partial"
    partial.write_bytes(b"x" * 4096)
    assert found("warning", status=0) == ""
    old = time.time() - 3 * DAY - 60
    os.utime(partial, (old, old))
    told = found("warning", status=1)
    assert told.startswith(f"{images}/sub: interrupted operations left 1 partial image (4 KiB")
    assert "untouched for 3 days): web.img" in told
    status = (images / "sub").stat()
    with locks.hold(f"{status.st_dev}:{status.st_ino}/web.img"):
        assert found("warning", status=0) == ""
    commands.virtstore("clean", images / "sub")
    assert found("warning", status=0) == ""


def test_an_agent_that_does_not_start_is_a_problem(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTSTORE_AGENT", "/nonexistent/agent")
    (told,) = findings(status=1)
    assert "/nonexistent/agent: No such file" in told["what"]
    assert "'virtstore doctor --verbose'" in told["remedy"]


def test_a_wrong_configuration_hides_nothing_else(images: Path) -> None:
    Path(os.environ["VIRTSTORE_CONFIG"]).write_text("[[directory]]\npaht = 3\n")
    assert "there is no 'paht'" in found("problem", status=1)
    assert "bubblewrap works" in found("ok", status=1)


def test_a_host_that_allows_nothing_tells_what_to_write(images: Path) -> None:
    configure()
    (told,) = [each for each in findings(status=1) if each["severity"] == "warning"]
    assert told["what"] == "nothing is configured, so nothing is allowed"
    assert '[[directory]]\npath = "/srv/images"' in told["remedy"]


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ("/nonexistent/log", "cannot be made, as there is no such directory"),
        ("{images}", "is no plain file"),
    ],
)
def test_a_log_that_cannot_be_written_is_told(images: Path, log: str, says: str) -> None:
    configure(images, log=log.format(images=images))
    assert says in found("warning", status=1)


def test_a_restricted_key_is_told_of_its_own_roots_only(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = images.parent / "secret"
    secret.mkdir(mode=0o700)
    old = secret / "x.img.virtstore-partial"
    old.write_bytes(b"x")
    os.utime(old, (0, 0))
    configure(images, secret, log="/nonexistent/log")
    assert str(secret) in found("warning", status=1)
    monkeypatch.setenv("VIRTSTORE_AGENT", f"{AGENT} --restrict-to {images}")
    told = str(findings(status=0))
    assert str(images) in told
    assert str(secret) not in told
    assert "/nonexistent/log" not in told


@pytest.mark.parametrize("there", [True, False])
def test_a_key_for_one_image_is_told_of_that(
    images: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    if there:
        (images / "x.img").write_bytes(b"x")
    monkeypatch.setenv("VIRTSTORE_AGENT", f"{AGENT} --restrict-to {images}/x.img")
    says = "an image that can be reached" if there else "can be made"
    assert says in found("ok", status=0)


def test_a_key_for_nothing_that_is_configured_is_a_problem(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTSTORE_AGENT", f"{AGENT} --restrict-to /elsewhere")
    assert "restricted to /elsewhere" in found("problem", status=1)
