"""`backup` on this machine: what becomes of each image, and what is told of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.schemas import check
from tests.waiting import PATIENCE, until
from tests.warm import COMMAND

import virtstore
from virtstore.backups.names import parse

from .test_agent_commands import MIB, images, tree
from .test_agent_commands import virtstore as command
from .test_json import used

__all__ = ["images"]  # a fixture

_KEYS = ["source", "target", "size", "transferred", "base", "seconds", "error"]


@pytest.fixture
def backups(images: Path) -> Path:
    """The directory for backups, in a root with the image x.img."""
    (images / "backups").mkdir()
    return images / "backups"


def backed_up(*words: object, status: int | None = 0) -> list[Any]:
    """What `backup` tells, which is a list, whatever it is of."""
    done = command("backup", *words, "--json", status=status)
    rows: list[Any] = json.loads(done.stdout)
    check("backup", rows)
    assert all(list(row)[: len(_KEYS)] == _KEYS for row in rows)
    return rows


def restored(archive: str | Path, to: Path) -> bytes:
    """What is in an archive, taken out of it by zstd alone."""
    subprocess.run(["zstd", "-dqf", archive, "-o", to], check=True)
    return to.read_bytes()


def test_a_backup_is_an_archive_with_the_images_name_and_the_time_in_utc(
    images: Path, backups: Path, tmp_path: Path
) -> None:
    [row] = backed_up(images / "x.img", backups)
    assert (row["source"], row["size"], row["error"]) == (f"{images}/x.img", 3 * MIB, None)
    name = Path(row["target"]).name
    assert re.fullmatch(r"x\.\d{4}-\d\d-\d\dT\d{6}Z\.img\.zst", name)
    assert [path.name for path in backups.iterdir()] == [name]
    assert restored(row["target"], tmp_path / "x") == (images / "x.img").read_bytes()
    assert "base" in row
    assert "warnings" not in row


def test_two_in_one_second_have_names_of_two_seconds(images: Path, backups: Path) -> None:
    argv = [sys.executable, "-c", COMMAND, "backup", "-q", str(images / "x.img"), str(backups)]
    running = [subprocess.Popen(argv) for _ in range(3)]
    assert [process.wait(PATIENCE) for process in running] == [0, 0, 0]
    assert len([*backups.iterdir()]) == 3
    command("verify", *backups.iterdir())


def test_one_that_fails_stops_no_other_and_the_status_is_the_highest(
    images: Path, backups: Path
) -> None:
    (images / "y.img").write_bytes(os.urandom(MIB))
    (images / "empty.img").touch()
    names = ["none.img", "x.img", "empty.img", "y.img"]
    rows = backed_up(*(images / name for name in names), backups, status=9)
    codes = [row["error"] and row["error"]["code"] for row in rows]
    assert codes == ["not-found", None, "corrupt", None]
    assert rows[0]["error"]["path"] == f"{images}/none.img"
    assert len([*backups.iterdir()]) == 2
    done = command("backup", *(images / name for name in names), backups, status=9)
    assert f"{images}/none.img: no such image" in done.stderr
    *lines, last = done.stdout.splitlines()
    assert [line.split()[0].rpartition("/")[2].split(".")[0] for line in lines] == ["x", "y"]
    assert last.startswith("2 of 4 backed up")
    assert f"{images}/none.img" in last


def test_one_that_fails_is_a_list_too(images: Path, backups: Path) -> None:
    [row] = backed_up(images / "none.img", backups, status=3)
    assert (row["source"], row["target"], row["size"]) == (f"{images}/none.img", None, None)


def test_several_at_a_time_are_told_in_the_order_asked_for(images: Path, backups: Path) -> None:
    for number in range(4):
        (images / f"{number}.img").write_bytes(os.urandom(MIB))
    sources = [images / f"{number}.img" for number in (3, 1, 2, 0)]
    rows = backed_up(*sources, images / "none.img", backups, "-j", 3, "--verify", status=3)
    assert [row["source"] for row in rows] == [*map(str, sources), f"{images}/none.img"]
    assert len([*backups.iterdir()]) == 4


def test_an_image_that_is_named_twice_is_backed_up_once(images: Path, backups: Path) -> None:
    assert len(backed_up(images / "x.img", f"{images}//./x.img", backups)) == 1


def test_images_of_one_name_are_kept_apart(images: Path, backups: Path) -> None:
    (images / "other").mkdir()
    (images / "x.raw").write_bytes(os.urandom(MIB))
    (images / "other" / "x.img").write_bytes(os.urandom(MIB))
    sources = images / "x.img", images / "x.raw", images / "other" / "x.img"
    rows = backed_up(*sources, backups)
    series = [row["target"].rpartition("/")[2].split(".20")[0] for row in rows]
    assert series[0] == "x"
    assert series[1].startswith("x@")
    assert series[2].endswith(series[1].replace("x@", "other-x@"))


@pytest.mark.parametrize("where", ["none", "x.img", "x.img/"])
def test_what_is_no_directory_is_refused_before_anything_is_read(
    images: Path, backups: Path, where: str
) -> None:
    before = tree(images)
    done = command("backup", images / "x.img", f"{images}/{where}", "--json", status=None)
    assert done.returncode in (3, 11)
    assert "director" in json.loads(done.stdout)["error"]["message"]
    assert tree(images) == before


def test_a_dry_run_says_what_would_be_and_makes_nothing(images: Path, backups: Path) -> None:
    before = tree(images)
    rows = backed_up(images / "x.img", images / "none.img", backups, "-n", status=3)
    assert (rows[0]["size"], rows[0]["transferred"]) == (3 * MIB, 0)
    shown = command("backup", images / "x.img", backups, "-n").stdout
    assert re.match(rf"would back up 3 MiB from {images}/x\.img to {backups}/x\.20", shown)
    assert tree(images) == before


def test_an_image_in_use_that_has_no_moment_is_refused_with_what_to_do(
    images: Path, backups: Path
) -> None:
    with used(images / "x.img"):
        [row] = backed_up(images / "x.img", backups, status=6)
        assert "process: sleep" in row["error"]["message"]
        assert "needs a place with snapshots" in row["error"]["message"]
        assert "--snapshot" not in row["error"]["message"]
        [row] = backed_up(images / "x.img", backups, "--no-snapshot", status=6)
        assert "leave --no-snapshot out" in row["error"]["message"]
    assert not [*backups.iterdir()]


def test_an_image_that_is_only_read_is_backed_up(images: Path, backups: Path) -> None:
    with (images / "x.img").open("rb") as file:
        reader = subprocess.Popen(["sleep", "infinity"], stdin=file)
    try:
        assert backed_up(images / "x.img", backups)[0]["error"] is None
    finally:
        reader.kill()
        reader.wait()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--no-snapshot", "--live"], "leave one of them out"),
        (["--no-snapshot", "--quiesce=try"], "leave one of them out"),
        (["--bwlimit", "5000"], "unit"),
        (["-j", "0"], "between 1 and"),
    ],
)
def test_what_contradicts_itself_is_refused(
    images: Path, backups: Path, words: list[str], says: str
) -> None:
    done = command("backup", images / "x.img", backups, *words, status=2)
    assert says in done.stderr


def test_in_python_each_result_tells_of_its_image(images: Path, backups: Path) -> None:
    seen: list[virtstore.Progress] = []
    with virtstore.connect() as here:
        sources = [here.image(f"{images}/{name}") for name in ("x.img", "none.img")]
        done, failed = virtstore.backup(
            sources, here.image(str(backups)), verify=True, progress=seen.append
        )
        assert done.target
        assert here.image(done.target).info().size == 3 * MIB
        assert failed.error
        assert failed.error.code == "not-found"
        with pytest.raises(virtstore.NotFound):
            virtstore.backup(sources, here.image(f"{images}/nowhere"))
    assert {event.operation for event in seen} == {"backup"}
    assert {event.source for event in seen} >= {f"{images}/x.img"}


def test_of_a_directory_the_images_are_backed_up_and_nothing_else(
    images: Path, backups: Path
) -> None:
    for name in ("db.img", "web.img", "web-old.img"):
        (images / name).write_bytes(os.urandom(MIB))
    command("compress", images / "db.img", "--keep")
    (images / "left.img.virtstore-partial").write_bytes(bytes(5000))
    rows = backed_up(images, backups, "--exclude", "*-old*", "--exclude", "nothing")
    assert [row["source"] for row in rows] == [f"{images}/{n}.img" for n in ("db", "web", "x")]
    [row] = backed_up(images, images / "db.img", backups, "--include", "d*")
    assert row["source"] == f"{images}/db.img"


def test_a_directory_of_which_nothing_is_backed_up_is_a_failure(
    images: Path, backups: Path
) -> None:
    rows = backed_up(images, images / "x.img", backups, "--include", "web*", status=3)
    assert "leave none of them" in rows[0]["error"]["message"]
    assert rows[1]["error"] is None
    [row] = backed_up(backups, backups, status=3)
    assert (row["source"], row["error"]["code"]) == (str(backups), "not-found")


def test_what_an_interrupted_backup_left_takes_no_room_after_the_next(
    images: Path, backups: Path
) -> None:
    own = backups / "x.2020-01-01T000000Z.img.zst.virtstore-partial"
    another = backups / "y.2020-01-01T000000Z.img.zst.virtstore-partial"
    for left in (own, another):
        left.write_bytes(bytes(5000))
    backed_up(images / "x.img", backups, "-n")
    assert own.exists()
    backed_up(images / "x.img", backups)
    assert not own.exists()
    assert another.exists()


def test_a_backup_that_another_run_is_making_is_left_alone(images: Path, backups: Path) -> None:
    (images / "x.img").write_bytes(os.urandom(8 * MIB))
    slow = ["backup", "-q", str(images / "x.img"), str(backups), "--bwlimit", "50K"]
    argv = ["env", "--default-signal=INT", sys.executable, "-c", COMMAND, *slow]
    with subprocess.Popen(argv) as running:
        until(lambda: [*backups.glob("*-partial")], "the backup to begin")
        backed_up(images / "x.img", backups)
        assert [*backups.glob("*-partial")]
        assert running.poll() is None
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE) == 130
    command("verify", *backups.glob("*.zst"))


def old(backups: Path, *days: int) -> list[Path]:
    """Backups of x of these days, made of one that is there."""
    [newest] = backups.glob("x.*.zst")
    made = [backups / f"x.2020-01-{day:02}T020000Z.img.zst" for day in days]
    for each in made:
        each.write_bytes(newest.read_bytes())
    return made


def test_once_there_is_a_new_one_older_ones_go_that_no_rule_keeps(
    images: Path, backups: Path
) -> None:
    backed_up(images / "x.img", backups)
    made = old(backups, 1, 2, 3, 4)
    other = backups / "y.2020-01-01T020000Z.img.zst"
    other.write_bytes(made[0].read_bytes())
    shown = command("backup", images / "x.img", backups, "-n", "--keep-last", "3").stdout
    assert "would remove 3 older backups" in shown
    [row] = backed_up(images / "x.img", backups, "--keep-last", "3")
    assert sorted(row["pruned"]) == [*map(str, made[:3])]
    assert other.exists()
    assert len([*backups.glob("x.*")]) == 3
    [row] = backed_up(images / "x.img", backups, "--keep-daily", "9")
    assert "pruned" in row  # of today the newest stays only
    assert made[3].exists()


def test_of_an_image_whose_backup_failed_nothing_goes(images: Path, backups: Path) -> None:
    backed_up(images / "x.img", backups)
    made = old(backups, 1, 2, 3, 4)
    with used(images / "x.img"):
        backed_up(images / "x.img", backups, "--keep-last", "1", status=6)
    (images / "x.img").unlink()
    backed_up(images / "x.img", backups, "--keep-last", "1", status=3)
    assert all(path.exists() for path in made)


@pytest.mark.parametrize("words", [["--keep-last", "0"], ["--keep-daily", "-1"]])
def test_rules_that_keep_nothing_are_refused(images: Path, backups: Path, words: list[str]) -> None:
    command("backup", images / "x.img", backups, *words, status=2)
    assert not [*backups.iterdir()]


def test_where_nothing_may_be_removed_rules_are_refused_before_anything_is_copied(
    images: Path, backups: Path
) -> None:
    config = images.with_name("config.toml")
    config.write_text(
        config.read_text() + f'[[directory]]\npath = "{backups}"\naccess = "append"\n'
    )
    done = command("backup", images / "x.img", backups, "--keep-last", "1", "--json", status=5)
    assert "virtstore prune" in json.loads(done.stdout)["error"]["message"]
    assert not [*backups.iterdir()]
    backed_up(images / "x.img", backups)


def test_a_file_whose_snapshot_is_to_stay_is_refused_and_nothing_is_made(
    images: Path, backups: Path
) -> None:
    [row] = backed_up(images / "x.img", backups, "--keep-snapshot", status=11)
    assert row["error"]["code"] == "unsupported"
    assert "leave --keep-snapshot out" in row["error"]["message"]
    assert [*backups.iterdir()] == []


def test_a_set_in_braces_is_several_images_where_no_shell_made_words_of_it(
    images: Path, backups: Path
) -> None:
    (images / "y.img").write_bytes(os.urandom(MIB))
    rows = backed_up(f"{images}/{{y,x}}.img", backups)
    assert [row["source"] for row in rows] == [f"{images}/y.img", f"{images}/x.img"]


def test_what_an_interrupted_copy_left_of_an_image_is_not_backed_up(
    images: Path, backups: Path
) -> None:
    (images / "left.img.virtstore-partial").write_bytes(bytes(5000))
    [row] = backed_up(images / "left.img", backups, status=None)
    assert row["error"]
    assert not [*backups.iterdir()]


def test_a_backup_is_based_on_the_newest_whole_one_of_its_image(
    images: Path, backups: Path, tmp_path: Path
) -> None:
    [first] = backed_up(images / "x.img", backups)
    assert first["base"] is None
    [made] = old(backups, 1)
    newest = Path(first["target"])
    (backups / "x.2100-01-01T000000Z.img.zst.virtstore-partial").write_bytes(b"x")
    [row] = backed_up(images / "x.img", backups)
    assert row["base"] == first["target"]
    shown = command("backup", images / "x.img", backups).stdout
    assert f"based on {Path(row['target']).name}" in shown
    for path in (made, newest, Path(row["target"])):
        path.unlink()
    [last] = backups.glob("*.zst")
    assert restored(last, tmp_path / "x") == (images / "x.img").read_bytes()


def series(row: Any) -> str:
    name = parse(row["target"])
    assert name
    return name.name


def test_an_image_of_another_path_has_a_series_of_its_own_unless_it_was_moved_there(
    images: Path, backups: Path
) -> None:
    (images / "other").mkdir()
    backed_up(images / "x.img", backups)
    (images / "other" / "x.img").write_bytes(os.urandom(MIB))
    for _ in range(2):
        [row] = backed_up(images / "other" / "x.img", backups, "--keep-last", "1")
        assert series(row).startswith("x@")
    assert len([*backups.glob("x.*")]) == 1
    (images / "other" / "x.img").unlink()
    (images / "x.img").rename(images / "other" / "x.img")
    [row] = backed_up(images / "other" / "x.img", backups)
    assert series(row) == "x"


def test_an_image_of_another_host_has_a_series_of_its_own(
    images: Path, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives a host another name")
    with monkeypatch.context() as patch:
        agent = f"{sys.executable} -P -m virtstore.agent"
        inside = f"hostname other && exec {agent}"
        patch.setenv("VIRTSTORE_AGENT", shlex.join(["unshare", "--uts", "sh", "-c", inside]))
        assert series(backed_up(images / "x.img", backups)[0]) == "x"
    assert series(backed_up(images / "x.img", backups)[0]).startswith("x@")


def test_an_image_that_is_written_to_meanwhile_is_begun_anew_once(
    images: Path, backups: Path, tmp_path: Path
) -> None:
    (images / "x.img").write_bytes(os.urandom(8 * MIB))
    words = ["backup", "-q", str(images / "x.img"), str(backups), "--bwlimit", "2M"]
    with subprocess.Popen([sys.executable, "-c", COMMAND, *words]) as running:
        until(lambda: [*backups.glob("*-partial")], "the backup to begin")
        with (images / "x.img").open("r+b") as file:
            file.write(os.urandom(MIB))
        assert running.wait(PATIENCE) == 0
    [made] = backups.iterdir()
    assert restored(made, tmp_path / "x") == (images / "x.img").read_bytes()


@pytest.mark.parametrize("access", ["write", "append"])
def test_a_backup_that_is_found_damaged_is_a_failure_and_removes_no_other(
    images: Path, backups: Path, access: str
) -> None:
    backed_up(images / "x.img", backups)
    [made] = old(backups, 1)
    config = Path(os.environ["VIRTSTORE_CONFIG"])
    config.write_text(config.read_text().replace("write", access))

    def damage(event: virtstore.Progress) -> None:
        if event.stage == "done" and len(found := sorted(backups.iterdir())) == 3:
            newest = bytearray(found[-1].read_bytes())
            newest[len(newest) // 2] ^= 1
            found[-1].write_bytes(newest)

    with virtstore.connect() as here:
        [failed] = virtstore.backup(
            [here.image(f"{images}/x.img")],
            here.image(str(backups)),
            keep=virtstore.Keep(last=1) if access == "write" else None,
            verify=True,
            progress=damage,
        )
    assert failed.error
    assert failed.error.code == "corrupt"
    assert failed.target == failed.error.path
    assert failed.target
    assert failed.pruned == ()
    assert made.exists()
    if access == "write":
        assert "it was removed" in failed.error.message
        assert not Path(failed.target).exists()
    else:
        assert "virtstore delete" in failed.error.message
        assert Path(failed.target).exists()


def test_a_new_backup_is_not_removed_for_one_that_a_fast_clock_dated_ahead(
    images: Path, backups: Path
) -> None:
    [row] = backed_up(images / "x.img", backups)
    ahead = f"{datetime.now(UTC) + timedelta(minutes=5):%Y-%m-%dT%H%M%SZ}"
    Path(row["target"]).rename(backups / f"x.{ahead}.img.zst")
    options = (images / "x.img", backups, "--keep-last", 1)
    [planned] = backed_up(*options, "--dry-run")
    assert planned.get("pruned", []) == []
    [row] = backed_up(*options)
    assert Path(row["target"]).exists()
    assert row.get("pruned", []) == []


def test_a_link_in_a_directory_is_not_taken_for_backed_up(images: Path, backups: Path) -> None:
    (images / "link.img").symlink_to("x.img")
    (images / os.fsdecode(b"\xff.img")).write_bytes(os.urandom(MIB))
    (images / "y.img").write_bytes(os.urandom(MIB))
    rows = backed_up(images, backups, status=11)
    told = {row["source"].rpartition("/")[2]: row["error"] for row in rows}
    assert told.keys() == {"x.img", "y.img", "link.img", "\\xff.img"}
    assert told["x.img"] is told["y.img"] is None
    assert "a link" in told["link.img"]["message"]
    rows = backed_up(images, backups, "--exclude", "*ff.img", "--exclude", "link*")
    assert [row["error"] for row in rows] == [None, None]


@pytest.mark.parametrize(("how", "more"), [("typed", []), ("job", []), ("job", ["--json"])])
def test_a_full_disk_under_the_log_keeps_no_image_from_being_backed_up(
    images: Path, backups: Path, how: str, more: list[str]
) -> None:
    for number in range(3):
        (images / f"{number}.img").write_bytes(os.urandom(MIB))
    job, seen = images.parent / "job.toml", images.parent / "seen"
    job.write_text(
        f'sources = ["{images}"]\ntarget = "{backups}"\n[hooks]\n'
        f'failed = "echo $VIRTSTORE_MADE $VIRTSTORE_FAILED $VIRTSTORE_MESSAGE > {seen}"\n'
    )
    words = [str(images), str(backups)] if how == "typed" else ["--job", str(job)]
    argv = [sys.executable, "-c", COMMAND, "backup", *words, *more]
    with open("/dev/full", "w") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE)
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert len([*backups.iterdir()]) == 4
    if how == "job":
        told = seen.read_text()
        assert told.startswith("4 0 ")
        assert "No space left" in told
