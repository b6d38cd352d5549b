"""What libvirt says becomes evidence; nothing becomes of a libvirt that is silent, or raves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from virtstore.agent.evidence import libvirt
from virtstore.agent.evidence.libvirt import Domains
from virtstore.backends.files.file import FileImage
from virtstore.errors import Error, Unsupported
from virtstore.libvirt import virsh
from virtstore.libvirt.domains import Domain, DomainDisk, domains
from virtstore.network_name import NetworkName

#: A virsh that knows the questions: what it says to them is filled in.
_VIRSH = """#!/bin/sh
for line; do :; done
mark=${line##* }
case $line in
list*) printf '%s\\n%s' "$LIST" "$mark" ;;
*) printf '%s\\n%s%s\\n%s%s\\n%s' "$INFO" "$mark" "$XML" "$mark" "$XML" "$mark" ;;
esac
"""
_UUID = "f08f6a33-15a1-4c2b-9da1-5e0da25e0313"


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose libvirt says what this program prints; it is there, and has not failed yet."""
    program = tmp_path / "bin" / "virsh"
    program.parent.mkdir()
    (tmp_path / "socket").touch()
    monkeypatch.setattr(virsh, "SOCKETS", (str(tmp_path / "socket"),))
    monkeypatch.setattr(libvirt, "_failed_at", -libvirt._GIVEN_UP)
    monkeypatch.setenv("PATH", f"{program.parent}:/bin")
    return program


def says(program: Path, script: str) -> None:
    program.write_text(script)
    program.chmod(0o755)


def disk(path: Path, *, read_only: bool = False, backing: tuple[str, ...] = ()) -> DomainDisk:
    return DomainDisk("vda", "file", str(path), "qcow2", read_only, backing=backing)


def network_disk(name: NetworkName) -> DomainDisk:
    return DomainDisk("vda", "network", "", "raw", network=name)


class NetworkImage(FileImage):
    """An image that programs reach over the network."""

    def __init__(self, name: NetworkName) -> None:
        super().__init__(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        self._name = name

    @property
    def network(self) -> NetworkName:
        return self._name


def told(image: Path, *found: Domain) -> list[tuple[str, bool, bool]]:
    """The evidence on an image: its words, and whether it writes, and is defined only."""
    fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    with FileImage(fd) as opened:
        uses = [use for _, use in Domains(found).gather([opened])]
    return [(use.evidence.detail, use.writes, use.defined) for use in uses]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "x.img").write_bytes(b"image")
    return tmp_path / "x.img"


def test_an_active_domain_writes_to_its_disks_unless_they_are_read_only(image: Path) -> None:
    web = Domain("web", "", "paused", (disk(image),), active=True)
    assert told(image, web) == [("domain web is paused", True, False)]
    cd = Domain("web", "", "running", (disk(image, read_only=True),), active=True)
    assert told(image, cd) == [("domain web is running", False, False)]


def test_what_a_running_domain_has_an_overlay_of_is_only_read(image: Path, tmp_path: Path) -> None:
    top = disk(tmp_path / "top.qcow2", backing=(str(image),))
    web = Domain("web", "", "running", (top,), active=True)
    assert told(image, web) == [("domain web is running, on an overlay of it", False, False)]


def test_two_domains_of_one_disk_are_both_told(image: Path) -> None:
    web = Domain("web", "", "running", (disk(image),), active=True)
    db = Domain("db", "", "shut off", (disk(image),))
    assert told(image, web, db) == [
        ("domain web is running", True, False),
        ("domain db, shut off, is defined on it", False, True),
    ]


def test_sources_that_are_no_file_or_not_there_are_passed_over(image: Path) -> None:
    disks = (disk(Path("/nowhere/x.img")), DomainDisk("vdb", "network", "", "raw"), disk(image))
    assert len(told(image, Domain("web", "", "running", disks, active=True))) == 1


@pytest.mark.parametrize(
    "script",
    [
        "#!/bin/sh\nexit 1",
        "#!/bin/sh\necho error: failed to connect to the hypervisor >&2; exit 1",
        "#!/bin/sh\necho nonsense",
        "#!/bin/sh\nexec sleep 60",
        "#!/bin/sh\nkill -9 $$",
        "no program at all",
    ],
)
def test_a_libvirt_that_does_not_answer_is_an_error_that_the_evidence_does_without(
    answers: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(virsh, "_PATIENCE", 0.5)
    says(answers, script)
    with pytest.raises((Error, OSError)):
        domains()
    assert libvirt.look()._uses == {}


def test_a_missing_virsh_is_told_with_its_package(
    answers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(answers.parent))
    with pytest.raises(Unsupported, match="libvirt-clients"):
        domains()
    assert libvirt.look()._uses == {}


@pytest.mark.parametrize(
    ("listed", "info", "xml"),
    [
        ("web; destroy web", "State: running", "<domain/>"),
        (_UUID, "State: running", "<domain>"),
        (_UUID, "State: running", "nonsense"),
    ],
)
def test_what_is_not_in_libvirts_words_is_an_error(
    answers: Path, listed: str, info: str, xml: str
) -> None:
    says(answers, _VIRSH.replace("$LIST", listed).replace("$INFO", info).replace("$XML", xml))
    with pytest.raises(Error, match="libvirt's"):
        domains()
    assert libvirt.look()._uses == {}


def test_a_domain_that_is_gone_by_the_second_question_is_left_out(answers: Path) -> None:
    says(answers, _VIRSH.replace("$LIST", _UUID).replace("$INFO", "").replace("$XML", ""))
    assert domains() == ()


def test_a_libvirt_that_failed_is_not_asked_again_at_once(answers: Path, tmp_path: Path) -> None:
    says(answers, f"#!/bin/sh\necho asked >> {tmp_path}/asked\nexit 1")
    for _ in range(3):
        libvirt.look()
    assert (tmp_path / "asked").read_text() == "asked\n"


def test_thousands_of_domains_are_asked_about_in_few_calls(answers: Path) -> None:
    uuids = [f"{number:08x}-15a1-4c2b-9da1-5e0da25e0313" for number in range(3000)]
    portions = virsh._portions([f"dumpxml --inactive {uuid}" for uuid in uuids])
    assert len(portions) < 10
    assert [command for portion in portions for command in portion][-1].endswith(uuids[-1])
    assert all(sum(len(each) + 40 for each in portion) < 128 << 10 for portion in portions)


def test_a_disk_that_qemu_decrypts_or_shows_a_part_of_has_no_format(answers: Path) -> None:
    disk = (
        '<disk type="file"><driver type="raw"/><source file="/x/{0}.img">{1}</source>'
        '<target dev="{0}"/></disk>'
    )
    disks = [
        disk.format("vda", ""),
        disk.format("vdb", '<encryption format="luks"/>'),
        disk.format("vdc", '<slices><slice type="storage" offset="0" size="512"/></slices>'),
    ]
    xml = f"<domain id='1'><name>web</name><devices>{''.join(disks)}</devices></domain>"
    script = _VIRSH.replace("$LIST", _UUID).replace("$INFO", "State: running")
    says(answers, script.replace('"$XML"', f"'{xml.replace(chr(39), chr(34))}'"))
    (web,) = domains()
    assert [(each.source, each.driver_format) for each in web.disks] == [
        ("/x/vda.img", "raw"),
        ("/x/vdb.img", ""),
        ("/x/vdc.img", ""),
    ]


def test_a_domains_disk_on_the_network_is_told_by_its_name_and_its_cluster() -> None:
    ours = NetworkName("rbd", "vms/web", frozenset({"10.0.0.1", "10.0.0.2"}))
    with NetworkImage(ours) as image:
        for hosts, is_told in (
            ({"10.0.0.2", "10.0.0.3"}, True),
            (set(), True),
            ({"mon1", "10.0.0.9"}, True),  # a name may be anybody's
            ({"10.0.0.9"}, False),
        ):
            theirs = NetworkName("rbd", "vms/web", frozenset(hosts))
            web = Domain("web", "", "running", (network_disk(theirs),), active=True)
            found = [use.evidence.detail for _, use in Domains([web]).gather([image])]
            assert found == ["domain web is running"] * is_told
        other = NetworkName("rbd", "vms/tenant/web", ours.hosts)
        web = Domain("web", "", "running", (network_disk(other),), active=True)
        assert not list(Domains([web]).gather([image]))


def test_what_a_domain_reaches_over_the_network_is_read_from_its_description(answers: Path) -> None:
    sources = (
        "protocol='rbd' name='vms/tenant/web'><host name='10.0.0.1'/><host name='[fd00::1]'/",
        "protocol='rbd' name='vms/golden'><snapshot name='s1'/",
        "protocol='nbd' name='vms/other'><host name='10.0.0.1'/",
    )
    disks = "".join(f"<disk type='network'><source {each}></source></disk>" for each in sources)
    xml = f"<domain><name>web</name><devices>{disks}</devices></domain>"
    says(
        answers, _VIRSH.replace("$LIST", _UUID).replace("$INFO", "State: off").replace("$XML", xml)
    )
    (found,) = domains()
    assert [disk.network for disk in found.disks] == [
        NetworkName("rbd", "vms/tenant/web", frozenset({"10.0.0.1", "fd00::1"})),
        NetworkName("rbd", "vms/golden@s1"),
        None,
    ]
