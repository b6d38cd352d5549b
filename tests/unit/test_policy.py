"""What a session may touch, decided from what is configured, and never from what is asked."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from virtstore.agent.config import Config, Limits
from virtstore.agent.policy import Policy
from virtstore.backends.files.root import DirectoryRoot
from virtstore.errors import Denied, NotFound
from virtstore.model import Access

LEVELS: tuple[Access, ...] = ("read", "append", "write")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one image in it and one in a subdirectory."""
    made = tmp_path / "images"
    (made / "sub").mkdir(parents=True)
    for path in (made / "x.img", made / "sub" / "y.img"):
        path.write_bytes(b"inside")
    return made


def policy_of(*roots: Path, access: Access = "write", restrict: tuple[str, ...] = ()) -> Policy:
    directories = tuple(DirectoryRoot(str(path), access) for path in roots)
    return Policy(Config(directories), restrict)


def contents(policy: Policy, path: str) -> bytes:
    with policy.image(path, "read") as place, place.store.open(place.name) as image:
        return image.read_at(0, 100)


@pytest.mark.parametrize(
    ("spelling", "shown"),
    [
        ("{}/x.img", "{}/x.img"),
        ("{}//x.img", "{}/x.img"),
        ("{}/./x.img", "{}/x.img"),
        ("{}/sub/y.img", "{}/sub/y.img"),
    ],
)
def test_what_lies_below_a_root_is_reached_and_shown_plainly(
    root: Path, spelling: str, shown: str
) -> None:
    policy = policy_of(root)
    path = spelling.format(root)
    assert contents(policy, path) == b"inside"
    with policy.image(path, "write") as place:
        assert place.path == shown.format(root)


@pytest.mark.parametrize(
    "path",
    [
        "{root}/../outside/x.img",
        "{root}/sub/../x.img",
        "{root}/..",
        "{root}s/x.img",  # a longer name is no subdirectory
        "{root}",  # a root is below itself, but is no image
        "/etc/passwd",
        "x.img",
        "",
        "{root}/x\n.img",
        "{root}/x\r.img",
        "{root}/x\0.img",
        "{root}/x.img.virtstore-partial",
        "{root}/x.img.virtstore-rework",
        "{root}/a.virtstore-partial/x.img",
    ],
)
def test_what_lies_elsewhere_or_reads_oddly_is_refused(root: Path, path: str) -> None:
    (root.parent / "outside").mkdir()
    (root.parent / "outside" / "x.img").write_bytes(b"outside")
    with (
        pytest.raises((Denied, NotFound)) as raised,
        policy_of(root).image(path.format(root=root), "read"),
    ):
        pass
    assert isinstance(raised.value, NotFound) == (path == "{root}")


def test_a_missing_directory_is_not_found(root: Path) -> None:
    for path in (root / "no" / "x.img", root / "x.img" / "y.img"):
        with pytest.raises(NotFound), policy_of(root).image(str(path), "read"):
            pass


@pytest.mark.parametrize(
    ("inside", "there"), [("no", ""), ("no/deeper", ""), ("sub/no", "/sub"), ("sub/no/no", "/sub")]
)
def test_of_a_missing_directory_it_is_said_how_far_the_path_leads(
    root: Path, inside: str, there: str
) -> None:
    with (
        pytest.raises(NotFound, match=f"there is {root}{there}, .* mkdir") as raised,
        policy_of(root).image(f"{root}/{inside}/x.img", "read"),
    ):
        pass
    assert raised.value.path == f"{root}/{inside}"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("need", LEVELS)
def test_access_is_what_was_configured_and_no_more(root: Path, level: Access, need: Access) -> None:
    policy = policy_of(root, access=level)
    allowed = LEVELS.index(need) <= LEVELS.index(level)
    assert policy.may(f"{root}/x.img", need) == allowed
    if allowed:
        with policy.image(f"{root}/x.img", need):
            return
    with (
        pytest.raises(Denied, match=f'access = "{level}".*needs "{need}"'),
        policy.image(f"{root}/x.img", need),
    ):
        pass


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("narrowed", LEVELS)
def test_an_agents_own_access_only_narrows(root: Path, level: Access, narrowed: Access) -> None:
    configuration = Config((DirectoryRoot(str(root), level),))
    policy = Policy(configuration, (), narrowed)
    least = min(LEVELS.index(level), LEVELS.index(narrowed))
    assert [policy.may(f"{root}/x", need) for need in LEVELS] == [n <= least for n in range(3)]
    assert [access for _, access in policy.roots()] == [LEVELS[least]]


def test_the_innermost_root_decides(root: Path) -> None:
    inner = DirectoryRoot(f"{root}/sub", "read")
    policy = Policy(Config((DirectoryRoot(str(root), "write"), inner)))
    assert policy.may(f"{root}/x.img", "write")
    assert not policy.may(f"{root}/sub/y.img", "append")


def test_a_restriction_is_to_a_tree_and_not_to_a_beginning_of_names(root: Path) -> None:
    other = root.parent / "images2"
    other.mkdir()
    policy = policy_of(root, other, restrict=(f"{root}/",))
    assert policy.may(f"{root}/x.img", "write")
    with (
        pytest.raises(Denied, match=f"restricted to {root}"),
        policy.image(f"{other}/x.img", "read"),
    ):
        pass
    assert [found.path for found, _ in policy.roots()] == [str(root)]


def test_a_restriction_within_a_root_shows_only_that_part_of_it(root: Path) -> None:
    policy = policy_of(root, restrict=(f"{root}/sub",))
    assert policy.may(f"{root}/sub/y.img", "write")
    assert not policy.may(f"{root}/x.img", "read")
    # What is shown can be opened: else one narrowed key breaks storage-info and list.
    for shown, _ in policy.roots():
        with policy.opened(shown) as store:
            assert [found.name for found in store.scan()] == ["y.img"]


@pytest.mark.parametrize(
    "unclear",
    ["", ".", "./", "..", "images", "~", "./images", "/srv/..", "/../x", "/a\0", "/a\n", " /x"],
)
def test_a_restriction_that_is_not_clear_allows_nothing(root: Path, unclear: str) -> None:
    for restriction in ((unclear,), (str(root), unclear)):
        with pytest.raises(Denied, match="may do nothing"):
            policy_of(root, restrict=restriction)


@pytest.mark.parametrize("spelling", ["{}/", "{}//", "/.{}", "/{}/."])
def test_a_restriction_may_be_spelt_in_any_clear_way(root: Path, spelling: str) -> None:
    policy = policy_of(root, restrict=(spelling.format(root),))
    assert policy.may(f"{root}/x.img", "write")
    assert not policy.may(f"{root.parent}/x.img", "read")


def test_a_restriction_to_no_root_allows_nothing_and_says_so(root: Path) -> None:
    policy = policy_of(root, restrict=("/srv/typo",))
    assert list(policy.roots()) == []
    for path in (f"{root}/x.img", "/srv/typo/x.img"):
        with (
            pytest.raises(Denied, match=r"restricted to /srv/typo.*allows nothing there") as raised,
            policy.image(path, "read"),
        ):
            pass
        assert "make it first: install -d -m 700 /srv/typo" in raised.value.message
        lines = raised.value.message.partition("\n\n")[2]
        assert tomllib.loads(lines)["directory"] == [{"path": "/srv/typo", "access": "write"}]


@pytest.mark.parametrize("there", ["sub", "x.img"])
def test_of_a_restriction_to_what_is_there_nothing_is_said_to_be_made(
    root: Path, there: str
) -> None:
    """The line that allows an image is its directory's."""
    policy = Policy(Config(), (f"{root}/{there}",), "append")
    told = policy.how_to_allow
    assert "install -d" not in told
    directory = root / there if there == "sub" else root
    lines = told.partition("\n\n")[2]
    assert tomllib.loads(lines)["directory"] == [{"path": str(directory), "access": "append"}]


@pytest.mark.parametrize("volume", ["/dev/vg7", "/dev/vg7/web"])
def test_a_restriction_to_a_volume_is_allowed_by_its_group(volume: str) -> None:
    lines = Policy(Config(), (volume,), "read").how_to_allow.partition("\n\n")[2]
    assert tomllib.loads(lines) == {"volume_group": [{"name": "vg7", "access": "read"}]}


def test_of_a_restriction_that_cannot_be_allowed_it_is_said_why() -> None:
    told = Policy(Config(), ("/etc/images",)).how_to_allow
    assert "the system's own" in told
    assert "[[" not in told


def test_each_that_is_too_narrow_is_named(root: Path) -> None:
    """Else whoever mends one of them is refused again."""
    policy = Policy(Config((DirectoryRoot(str(root), "append"),)), (str(root),), "read")
    with pytest.raises(Denied) as raised:
        policy.require(f"{root}/x.img", "write")
    assert f'access = "append" for {root}' in raised.value.message
    assert "started with --access read" in raised.value.message
    with pytest.raises(Denied) as raised:
        policy.require(f"{root}/x.img", "append")
    assert "the configuration" not in raised.value.message


def test_a_narrow_access_is_named_beside_a_place_that_is_not_allowed(root: Path) -> None:
    for restrict in ((), ("/srv/other",)):
        for roots in ((), (DirectoryRoot("/srv/other", "write"),)):
            policy = Policy(Config(roots), restrict, "append")
            with pytest.raises(Denied, match=r'--access append, and .* needs "write"'):
                policy.require(f"{root}/x.img", "write")
            with pytest.raises(Denied) as raised:
                policy.require(f"{root}/x.img", "append")
            assert "--access" not in raised.value.message


def test_a_restriction_never_widens(root: Path) -> None:
    policy = policy_of(root, restrict=("/",))
    assert policy.may(f"{root}/x.img", "write")
    assert not policy.may("/etc/passwd", "read")
    assert [found.path for found, _ in policy.roots()] == [str(root)]


def test_where_nothing_is_configured_the_message_is_the_configuration_to_write(
    root: Path,
) -> None:
    with pytest.raises(Denied) as raised, Policy(Config()).image(f"{root}/x.img", "append"):
        pass
    assert "no configuration was found" in raised.value.message
    lines = raised.value.message.partition("\n\n")[2]
    told = tomllib.loads(lines)["directory"]
    assert told == [{"path": str(root), "access": "append"}]


def test_an_image_larger_than_the_host_allows_is_refused() -> None:
    policy = Policy(Config(limits=Limits(max_image_size="1G")))
    policy.check_size(1 << 30)
    with pytest.raises(Denied, match=r"1073741825 bytes.*max_image_size = 1073741824 bytes"):
        policy.check_size((1 << 30) + 1)


def test_only_a_directory_below_a_root_is_a_directory(root: Path) -> None:
    policy = policy_of(root)
    found = [policy.is_store(str(path)) for path in (root, root / "sub", root / "x.img")]
    assert found == [True, True, False]
    with pytest.raises(Denied):
        policy.is_store("/etc")


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_root_that_others_can_write_to_is_refused(root: Path, mode: int) -> None:
    root.chmod(mode)
    with (
        pytest.raises(Denied, match=f"chmod go-w {root}"),
        policy_of(root).image(f"{root}/x.img", "read"),
    ):
        pass


def test_a_root_of_another_user_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.stat(root)
    monkeypatch.setattr(os, "geteuid", lambda: status.st_uid + 1)
    real = os.fstat

    def of_a_stranger(fd: int) -> os.stat_result:
        found = list(real(fd))
        found[4] = 4711
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", of_a_stranger)
    with (
        pytest.raises(Denied, match=f"uid 4711.*chown root {root}"),
        policy_of(root).image(f"{root}/x.img", "read"),
    ):
        pass


def test_a_configured_root_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(NotFound, match="configured directory cannot be opened") as raised,
        policy_of(tmp_path / "no").image(f"{tmp_path}/no/x.img", "read"),
    ):
        pass
    assert raised.value.path == f"{tmp_path}/no"
