"""What several files of tests ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.libvirt_fixture import libvirt, libvirtd, pool, web  # noqa: F401
from tests.moto_fixture import bucket, moto, proxy  # noqa: F401
from tests.tools.meanwhile import Meanwhile
from tests.tools.partitioned import Told, new_image
from tests.tools.resize_images import configuration


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Told]]:
    """Where an image can be made, who may change it, and the command line may as well."""
    with new_image() as found:
        monkeypatch.setenv("VIRTSTORE_CONFIG", str(configuration(found[0].parent)))
        yield found


@pytest.fixture
def image(asked: tuple[Path, Told]) -> Path:
    return asked[0]


@pytest.fixture
def told(asked: tuple[Path, Told]) -> Told:
    return asked[1]


@pytest.fixture
def meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """To act in the middle of what an agent does; it is to be asked for before the agent starts."""
    return Meanwhile(tmp_path / "unfinished", monkeypatch)
