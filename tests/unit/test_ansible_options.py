"""What the modules for Ansible offer is what their documentation and virtstore say."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
import yaml
from ansible_collections.virtstore.storage.plugins.doc_fragments.common import ModuleDocFragment
from ansible_collections.virtstore.storage.plugins.module_utils import locations, sizes
from ansible_collections.virtstore.storage.plugins.module_utils.failure import Failure, spelled
from ansible_collections.virtstore.storage.plugins.module_utils.outcome import COMMON
from ansible_collections.virtstore.storage.plugins.modules import backup, copy, facts, image
from hypothesis import given
from hypothesis import strategies as st

from virtstore import errors, units
from virtstore.backups.options import BackupKeywords
from virtstore.cli.keep_options import KeepOptions
from virtstore.copy_options import CopyKeywords
from virtstore.version import __version__

from .. import shown

_COLLECTION: Final = shown.ROOT / "ansible_collections" / "virtstore" / "storage"
_MODULES: Final = sorted(path.stem for path in (_COLLECTION / "plugins" / "modules").glob("*.py"))


def _module(name: str) -> Any:
    return import_module(f"ansible_collections.virtstore.storage.plugins.modules.{name}")


@pytest.mark.parametrize("name", _MODULES)
def test_the_documentation_has_each_option_as_it_is(name: str) -> None:
    module = _module(name)
    told = yaml.safe_load(module.DOCUMENTATION)
    common = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    assert told["module"] == name
    for options, arguments in ((told["options"], module.ARGUMENTS), (common, COMMON)):
        said = {
            key: {word: value for word, value in option.items() if word != "description"}
            for key, option in options.items()
        }
        assert said == arguments
    assert yaml.safe_load(module.EXAMPLES)
    assert yaml.safe_load(module.RETURN)["error"]["returned"] == "failure"


@pytest.mark.parametrize("name", _MODULES)
def test_the_examples_use_options_that_there_are(name: str) -> None:
    for task in yaml.safe_load(_module(name).EXAMPLES):
        for key, given_ in task.items():
            if key.startswith("virtstore.storage."):
                assert set(given_) <= set(_module(key.rpartition(".")[2]).ARGUMENTS) | set(COMMON)


def test_a_copy_and_a_backup_offer_all_that_virtstore_does() -> None:
    own = {"source", "target", "contents"}
    assert set(copy.ARGUMENTS) - own == set(CopyKeywords.__annotations__)
    own = {"sources", "directory", "job", "max_age", "jobs", *vars(KeepOptions())}
    assert set(backup.ARGUMENTS) - own == set(BackupKeywords.__annotations__)
    assert set(vars(KeepOptions())) < set(backup.ARGUMENTS)


def _all_given(arguments: dict[str, Any]) -> SimpleNamespace:
    """A module whose parameters are all given."""
    given_: dict[str, object] = {"str": "x", "int": 1, "bool": True, "list": ["x", "y"]}
    params = {name: given_[told["type"]] for name, told in arguments.items()}
    return SimpleNamespace(params={**params, "quiesce": "true"})


def test_what_a_task_says_reaches_the_command() -> None:
    for module, words, own in (
        (copy, copy.copy_options, {"source", "target", "overwrite", "contents"}),
        (backup, backup.backup_options, {"sources", "directory", "job", "max_age"}),
    ):
        said = words(_all_given(module.ARGUMENTS))
        options = {word.partition("=")[0] for word in said}
        named = {f"--{name.replace('_', '-')}" for name in set(module.ARGUMENTS) - own}
        assert options == named
        assert ("--include=y" in said) == (module is backup)


def test_the_collection_has_the_version_of_virtstore() -> None:
    assert yaml.safe_load((_COLLECTION / "galaxy.yml").read_text())["version"] == __version__
    listed = yaml.safe_load((_COLLECTION / "meta" / "runtime.yml").read_text())
    assert listed["action_groups"]["all"] == _MODULES


@pytest.mark.parametrize("file", sorted(_COLLECTION.rglob("*.py")), ids=lambda file: file.stem)
def test_a_module_is_what_an_older_python_reads_and_needs_nothing_else(file: Path) -> None:
    tree = ast.parse(file.read_text(), feature_version=(3, 9))
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    own = ("ansible.module_utils.basic", "ansible_collections.virtstore.storage.")
    foreign = {name for name in imported if not name.startswith(own)}
    assert foreign <= {"__future__", "collections.abc", "dataclasses", "fractions", "typing"}


@pytest.mark.parametrize(
    "text", ["1", "4096", "10G", "1.5GiB", "500 MB", "0.1K", "7kb", "12b", " 3m ", "1KIB", "2.7T"]
)
def test_a_size_is_as_many_bytes_as_virtstore_makes_of_it(text: str) -> None:
    assert sizes.bytes_of(text) == units.parse_size(text)


@pytest.mark.parametrize("text", ["", "+1G", "-1G", "10X", "minimum", "50%", "1e3", "٣"])
def test_what_is_no_size_of_an_image_to_be_is_refused(text: str) -> None:
    with pytest.raises(Failure, match="is no size"):
        sizes.bytes_of(text)


@given(st.sampled_from(["local", "a", "u@a", "ssh://a:22", "[::1]"]), st.text(min_size=1))
def test_a_location_is_spelled_as_virtstore_spells_it(host: str, rest: str) -> None:
    assert spelled(host, f"/{rest}") == errors.spelled(host, f"/{rest}")


@pytest.mark.parametrize(
    ("location", "snapshot"),
    [
        ("a:/dev/vg0/web", "a:/dev/vg0/s1"),
        ("/srv/images/web.img", "/srv/images/s1"),
        ("ssh://a:22/dev/rbd/vms/web", "ssh://a:22/dev/rbd/vms/web@s1"),
    ],
)
def test_a_snapshot_lies_beside_its_image_or_behind_an_at(location: str, snapshot: str) -> None:
    assert locations.snapshot_of(location, "s1") == snapshot


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "--with-snapshots"])
def test_what_is_no_name_of_a_snapshot_is_refused(name: str) -> None:
    with pytest.raises(Failure, match="is no name"):
        locations.check_name(name)


def test_roots_of_every_kind_are_found_by_their_access() -> None:
    storage = {
        "host": "a",
        "directories": [{"path": "/srv", "access": "write"}],
        "rbd_pools": [{"path": "/dev/rbd/vms", "access": "read"}],
        "formats": [{"name": "zstd"}],
        "unmanaged": [{"path": "/var/lib/libvirt/images"}],
        "warnings": ["something"],
    }
    assert facts.roots(storage) == ["a:/srv", "a:/dev/rbd/vms"]


def _planned(name: str | None) -> dict[str, Any]:
    target = f"b:/srv/backups/{name}.2026-11-28T020000Z.img.zst" if name else None
    error = None if name else {"code": "not-found", "message": "no image of it is backed up"}
    return {"source": f"a:/srv/{name}.img", "target": target, "error": error}


def test_due_is_what_is_late_or_new_and_not_what_could_not_be_planned() -> None:
    planned = [_planned(name) for name in ("web", "db.2025-01-01T000000Z", "new", None)]
    assert backup.directory_of(planned) == "b:/srv/backups"
    late = {"web": False, "db.2025-01-01T000000Z": True}
    failed, due, recent = backup.parted(planned, late)
    assert recent == ["a:/srv/web.img"]
    assert due == [each["source"] for each in planned[1:3]]
    assert failed == planned[3:]


@pytest.mark.parametrize(
    ("resize", "present", "verb"),
    [
        ("image", 10, "grow"),
        ("image", 11, "shrink"),
        ("image", None, "grow"),
        ("filesystem", 11, "resize"),
        ("filesystem", 9, "resize"),
    ],
)
def test_the_command_that_gives_an_image_its_size(
    resize: str, present: int | None, verb: str
) -> None:
    wanted = image.Wanted("/x", 10, "10", resize, shrink=False)
    assert wanted.verb(present) == verb


def test_the_file_system_that_is_told_of_is_the_one_in_that_partition() -> None:
    told = {
        "filesystem": None,
        "partitions": [
            {"number": 1, "filesystem": None},
            {"number": 2, "filesystem": {"type": "ext4", "size": 7}},
        ],
    }
    assert image.filesystem_size(told, 2) == 7
    assert image.filesystem_size(told, 1) is None
    assert image.filesystem_size({"filesystem": {"size": 5}, "partitions": []}, None) == 5


def test_no_text_of_the_collection_names_what_is_not_there() -> None:
    for file in _COLLECTION.rglob("*"):
        if file.suffix in (".py", ".md"):
            named = set(re.findall(r"virtstore\.storage\.(\w+)", file.read_text()))
            assert named <= {*_MODULES, "common", "plugins", "all"}, file
