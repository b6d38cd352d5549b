"""What runs on a host that gets virtstore: old or new at every moment, and nothing else touched."""

from __future__ import annotations

import io
import lzma
import os
import signal
import subprocess
import sys
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest
from tests.unit.small_bundle import small_bundle

from virtstore.bare_host.installing import Done, install
from virtstore.bare_host.places import Places, Refused, digests, exclusive
from virtstore.bare_host.removing import owned, uninstall
from virtstore.bare_host.survey import survey
from virtstore.client.bundle import Bundle

OLD, NEW = small_bundle("1.0"), small_bundle("2.0")
TEXT: Final = '[[directory]]\npath = "/srv"\n'

#: Kills itself before the step number N that changes something, and tells how many there are.
_KILLED_AT: Final = """
import os, signal, sys
left = int(sys.argv[1])
def counted(real):
    def step(*given, **named):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return real(*given, **named)
    return step
for name in "mkdir open rename replace symlink link unlink rmdir fchmod fsync".split():
    setattr(os, name, counted(getattr(os, name)))
from virtstore.bare_host import installing, removing, places
where = places.Places(*sys.argv[2:5])
if sys.argv[5:]:
    installing.install(where, sys.argv[5], sys.stdin.buffer.read(), sys.argv[6])
else:
    removing.uninstall(where)
"""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    base = tmp_path / "host"
    base.mkdir(0o755)
    return Places(f"{base}/lib/virtstore", f"{base}/bin", f"{base}/etc/config.toml")


def put(places: Places, bundle: Bundle, text: str | None = None) -> Done:
    return install(places, bundle.digest, bundle.packed(), text)


def told(places: Places, name: str = "virtstore-agent") -> str:
    said = subprocess.run([places.command(name)], capture_output=True, text=True, check=True)
    return said.stdout.strip()


def killed_at(step: int, places: Places, *words: str, given: bytes = b"") -> bool:
    """Whether a run was killed at that step; it has fewer otherwise."""
    argv = [sys.executable, "-c", _KILLED_AT, str(step), *places[:3], *words]
    done = subprocess.run(argv, input=given, capture_output=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode != 0


def test_the_commands_lead_to_the_bundle(places: Places) -> None:
    assert put(places, NEW, TEXT) == (True, True)
    assert put(places, NEW) == (False, False)
    assert told(places) == told(places, "virtstore") == "2.0"
    assert Path(places.configuration).read_text() == TEXT
    tree = Path(places.tree(NEW.digest))
    for path in tree.rglob("*"):
        assert not path.stat().st_mode & 0o022, path
    assert (tree / "client/two/__init__.py").read_bytes() == b"two = 2\n"
    assert [*tree.rglob("*.pyc")], "each start would compile it again"


def test_a_newer_bundle_takes_the_place_of_the_older(places: Places) -> None:
    put(places, OLD)
    put(places, NEW)
    assert told(places) == "2.0"
    assert digests(places) == [NEW.digest]


def test_wherever_an_installation_is_killed_there_is_the_old_one_or_the_new(
    places: Places,
) -> None:
    step, packed = 0, NEW.packed()
    put(places, OLD)
    while killed_at(step, places, NEW.digest, TEXT, given=packed):
        assert told(places) in ("1.0", "2.0")
        assert told(places, "virtstore") == told(places)
        if os.path.exists(places.configuration):
            assert Path(places.configuration).read_text() == TEXT
        put(places, NEW, TEXT)
        assert sorted(os.listdir(places.library)) == sorted([NEW.digest, "current"])
        assert sorted(os.listdir(places.commands)) == ["virtstore", "virtstore-agent"]
        assert Path(places.configuration).read_text() == TEXT
        step += 1
        uninstall(places)
        Path(places.configuration).unlink()
        put(places, OLD)
    assert step > 20
    assert told(places) == "2.0"


def test_wherever_a_removal_is_killed_the_next_one_ends_it(places: Places) -> None:
    step = 0
    put(places, NEW)
    while killed_at(step, places):
        if os.path.lexists(places.command("virtstore-agent")):
            assert told(places) == "2.0"
        uninstall(places)
        assert os.listdir(places.commands) == []
        assert not os.path.exists(places.library)
        put(places, NEW)
        step += 1
    assert step > 5
    assert not os.path.exists(places.library)


def test_an_agent_that_does_not_run_there_is_not_put_there(places: Places) -> None:
    put(places, OLD)
    broken = small_bundle("2.0", "echo GLIBC_9 not found >&2; exit 1")
    with pytest.raises(Refused, match="does not run there: GLIBC_9 not found"):
        put(places, broken)
    assert told(places) == "1.0"
    assert sorted(os.listdir(places.library)) == sorted([OLD.digest, "current"])


def test_what_was_damaged_on_its_way_is_refused(places: Places) -> None:
    packed = NEW.packed()
    for data in (
        packed[:-9],
        b"",
        lzma.compress(NEW.tar + b"\0"),
        packed[:99] + b"x" + packed[100:],
    ):
        with pytest.raises(Refused, match="not what was sent"):
            install(places, NEW.digest, data, None)
    assert digests(places) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../out", tarfile.REGTYPE),
        ("bin/../../out", tarfile.REGTYPE),
        ("/out", tarfile.REGTYPE),
        ("bin", tarfile.SYMTYPE),
        ("bin/agent", tarfile.LNKTYPE),
        ("dev", tarfile.CHRTYPE),
    ],
)
def test_nothing_but_plain_files_below_it_is_unpacked(
    places: Places, name: str, kind: bytes
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/"
    with tarfile.open(fileobj=(made := io.BytesIO()), mode="w") as tar:
        tar.addfile(member)
    digest = sha256(made.getvalue()).hexdigest()[:32]
    with pytest.raises(Refused, match="a bundle has no"):
        install(places, digest, lzma.compress(made.getvalue()), None)
    assert os.listdir(places.library) == []


def test_a_configuration_that_is_there_stays(places: Places) -> None:
    Path(places.configuration).parent.mkdir()
    Path(places.configuration).write_text("# mine\n")
    assert put(places, NEW, TEXT) == (True, False)
    assert Path(places.configuration).read_text() == "# mine\n"
    assert os.listdir(os.path.dirname(places.configuration)) == ["config.toml"]


def test_another_program_of_that_name_stays(places: Places) -> None:
    os.makedirs(places.commands)
    Path(places.command("virtstore")).write_text("another's")
    with pytest.raises(Refused, match="something else is called so") as refused:
        put(places, NEW)
    assert refused.value.path == places.command("virtstore")
    assert uninstall(places)
    assert os.listdir(places.commands) == ["virtstore"]


def test_a_bundle_that_an_agent_runs_from_stays_until_it_has_ended(places: Places) -> None:
    put(places, OLD)
    module = f"{places.tree(OLD.digest)}/agent/one.cpython-311-x86_64-linux-gnu.so"
    code = (
        f"import mmap; f = open({module!r}, 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1);"
        "print(flush=True); input()"
    )
    agent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert agent.stdout
    assert agent.stdin
    with agent, agent.stdin, agent.stdout:
        agent.stdout.readline()
        assert put(places, NEW).changed
        assert set(digests(places)) == {OLD.digest, NEW.digest}
        assert not put(places, NEW).changed, "it is as it was, and can be no other way yet"
        with pytest.raises(Refused, match=f"at work there \\(process {agent.pid}\\)"):
            uninstall(places)
    put(places, NEW)
    assert digests(places) == [NEW.digest]


def test_two_at_once_are_told(places: Places) -> None:
    put(places, OLD)
    with exclusive(places), pytest.raises(Refused, match="being installed there by another"):
        put(places, NEW)


def test_places_that_others_may_write_to_are_refused(places: Places) -> None:
    os.makedirs(places.commands, mode=0o755)
    os.chmod(places.commands, 0o777)
    with pytest.raises(Refused, match="chmod go-w"):
        put(places, NEW)
    assert os.listdir(places.commands) == []


def test_what_is_removed_is_what_was_put_there(places: Places, tmp_path: Path) -> None:
    put(places, NEW, TEXT)
    Path(places.library, "notes").write_text("the administrator's")
    Path(places.commands, "other").write_text("")
    assert set(owned(places)) == set(uninstall(places))
    assert os.listdir(places.library) == ["notes"]
    assert os.listdir(places.commands) == ["other"]
    assert Path(places.configuration).read_text() == TEXT
    assert uninstall(places) == []


def test_a_survey_tells_what_is_there_and_changes_nothing(places: Places) -> None:
    before = survey(places, "user", "/bin", ["sh", "no-such-tool"], ["/", "/no-such-directory"])
    assert not os.path.exists(places.library)
    assert before["missing_tools"] == ["no-such-tool"]
    assert before["missing_directories"] == ["/no-such-directory"]
    assert (before["digest"], before["configured"], before["searched"]) == ("", None, False)
    put(places, NEW, TEXT)
    after = survey(places, "user", f"/bin:{places.commands}", [], [])
    assert (after["digest"], after["version"], after["linked"]) == (NEW.digest, "2.0", True)
    assert after["configured"] == [["directory", "/srv", ""]]
    assert after["searched"] is True
