"""The collection is built by Ansible's own tool, and Ansible reads what it says of its modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from .. import shown

_COLLECTION = shown.ROOT / "ansible_collections" / "virtstore" / "storage"


def _ansible(home: Path, tool: str, *words: str) -> str:
    """What one of Ansible's tools prints. `home`: where it may keep what it likes."""
    environment = {
        **os.environ,
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_COLLECTIONS_PATH": str(shown.ROOT),
    }
    argv = [str(Path(sys.executable).parent / tool), *words]
    done = subprocess.run(
        argv, env=environment, capture_output=True, text=True, cwd=home, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return done.stdout


def test_the_collection_has_its_modules_and_nothing_of_ours_besides(tmp_path: Path) -> None:
    _ansible(tmp_path, "ansible-galaxy", "collection", "build", str(_COLLECTION))
    [built] = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as packed:
        files = {member.name for member in packed if member.isfile()}
    sources = {str(file.relative_to(_COLLECTION)) for file in _COLLECTION.rglob("*.py")}
    others = {"MANIFEST.json", "FILES.json", "README.md", "meta/runtime.yml"}
    assert files == sources | others


def test_ansible_doc_tells_of_each_module(tmp_path: Path) -> None:
    names = [f"virtstore.storage.{file.stem}" for file in _COLLECTION.glob("plugins/modules/*.py")]
    told = json.loads(_ansible(tmp_path, "ansible-doc", "--json", *names))
    assert set(told) == set(names)
    for module in told.values():
        assert "executable" in module["doc"]["options"]
        assert module["doc"]["attributes"]["check_mode"]["support"] == "full"
        assert module["examples"]
        assert module["return"]["error"]
