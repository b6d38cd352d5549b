"""What a name promises, and what it leaves open."""

from __future__ import annotations

from typing import get_args

import pytest

from virtstore import names
from virtstore.model import ContainerFormat


@pytest.mark.parametrize(
    ("name", "archive", "stem"),
    [
        ("x.img.zst", "zstd", "x.img"),
        ("X.IMG.GZ", "gzip", "X.IMG"),
        ("x.tar.gz", "gzip", "x.tar"),
        ("x.lz4", "lz4", "x"),
        ("backup23image", None, "backup23image"),
        ("x.zst.img", None, "x.zst.img"),
        ("zst", None, "zst"),
    ],
)
def test_an_archives_name_says_its_format(name: str, archive: str | None, stem: str) -> None:
    assert names.archive_format(name) == archive
    assert names.without_archive_suffix(name) == stem


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.qcow2", "qcow2"),
        ("X.VMDK", "vmdk"),
        ("x.vhd", "vhd"),
        ("x.vhdx", "vhdx"),
        ("x.img.bz2", "bzip2"),
        ("x.z", "compress"),
        ("x.tgz", "tar"),
        ("disk.hdd", None),
        ("disk.dmg", None),
        ("x.raw", None),
        ("x.iso", None),
        ("web", None),
    ],
)
def test_a_name_promises_one_kind_or_none(name: str, kind: str | None) -> None:
    assert names.promised(name) == kind


@pytest.mark.parametrize(
    ("name", "alone", "in_a_directory_of_qcow2"),
    [
        ("web.qcow2", "qcow2", "qcow2"),
        ("WEB.QCOW2", "qcow2", "qcow2"),
        ("web.img.qcow2", "qcow2", "qcow2"),
        ("web.vmdk", "vmdk", "vmdk"),
        ("Web.Vdi", "vdi", "vdi"),
        ("web.vhdx", "vhdx", "vhdx"),
        ("web", None, "qcow2"),
        ("web.img", None, "qcow2"),
        ("web.qcow2.old", None, "qcow2"),
        ("web.raw", None, None),
        ("WEB.RAW", None, None),
        ("debian.iso", None, None),
        ("web.vhd", None, None),
        ("web.qcow", None, None),
        ("web.qcow2.zst", None, None),
        ("web.img.GZ", None, None),
        ("web.tar", None, None),
    ],
)
def test_a_name_or_else_the_directory_says_which_file_is_a_container(
    name: str, alone: str | None, in_a_directory_of_qcow2: str | None
) -> None:
    assert names.container_of(name) == alone
    assert names.container_of(name, "qcow2") == in_a_directory_of_qcow2


def test_what_is_written_is_opened_as_well() -> None:
    assert set(names.WRITTEN) <= set(names.OPENED) <= set(get_args(ContainerFormat))
    for opened in names.OPENED:
        assert names.container_of(f"x.{opened}") == opened


def test_what_has_names_of_raw_images_too_may_have_its_own() -> None:
    assert names.fits("disk.hdd", "parallels")
    assert not names.fits("disk.img", "parallels")


def test_each_container_of_the_model_has_a_kind_and_the_other_way_round() -> None:
    containers = {name for name, kind in names.KINDS.items() if kind.container}
    assert containers == set(get_args(ContainerFormat))


def test_no_suffix_is_of_two_kinds_or_of_an_archive_that_is_read() -> None:
    suffixes = [s.lower() for kind in names.KINDS.values() for s in kind.suffixes]
    suffixes += names.SUFFIXES.values()
    assert len(set(suffixes)) == len(suffixes)
