"""Whatever a message or a page tells somebody to type or to write is understood: commands by the
real command line, configuration by the real loader."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import virtstore
from virtstore.agent import __main__ as agent
from virtstore.agent import config, hints
from virtstore.agent.policy import Policy
from virtstore.backups import job_file
from virtstore.cli.commands import COMMANDS
from virtstore.cli.parsing import parser_of
from virtstore.cli.words import _has_value, verb_first
from virtstore.client.hosts_file import read as read_hosts
from virtstore.errors import Denied, Error
from virtstore.model import Access

from .. import shown

SOURCES = Path(virtstore.__file__).parent
PAGES = "".join(page.read_text() for page in shown.pages())
#: What each command needs besides its options.
ARGUMENTS = {
    "create": ["/x", "1G"], "grow": ["/x", "1G"], "shrink": ["/x", "1G"], "resize": ["/x", "1G"],
    "shrinkfs": ["/x", "1G"], "copy": ["/x", "/y"], "copy-contents": ["/x", "/y"],
    "diff": ["/x", "/y"], "restore": ["/x", "/y"],
}  # fmt: skip
#: Options that messages name and that are other programs'.
OTHERS = {"--deltag", "--offset", "--help", "--long", "--restrict-to", "--access", "--config"}


def sentences() -> Iterator[str]:
    """All texts in the sources that hold a space; what is filled in is `{}`."""
    for file in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def parse(words: list[str]) -> None:
    verb, *rest = verb_first(words)
    parser_of(verb).parse_args(rest, exit_on_error=False, print_error=False)


HINTS = sorted({hint for text in sentences() for hint in re.findall(r"'virtstore ([^']+)'", text)})


@pytest.mark.parametrize("hint", HINTS)
def test_a_command_that_a_message_names_is_one(hint: str) -> None:
    """What it leaves open is `…`, or filled in; of its arguments it names all or none."""
    verb, *words = (("/x" if word in ("…", "{}") else word) for word in shlex.split(hint))
    if "--help" in (verb, *words):
        return
    assert verb in COMMANDS
    values = [word for option, word in pairwise(words) if _has_value(option)]
    named = [word for word in words if word[0] != "-" and word not in values]
    parse([verb, *([] if named else ARGUMENTS.get(verb, ["/x"])), *words])


def test_an_option_that_a_message_names_is_one() -> None:
    known = set(OTHERS)
    for verb in COMMANDS:
        for argument in parser_of(verb).assemble_argument_collection():
            known |= {name for name in argument.names if name.startswith("--")}
    told = {
        option
        for text in sentences()
        if re.search(r"[a-z] [a-z]", text) and "(8)" not in text and "\n" not in text
        for option in re.findall(r"(?:^|[ (;,])(--[a-z][a-z-]+)\b(?!=)", _of_ours(text))
    }
    assert {"--overwrite", "--discard-data", "--with-snapshots"} <= told
    assert told <= known


def _of_ours(text: str) -> str:
    """A text without the commands of other programs that it quotes."""
    return re.sub(r"(['`])(?!virtstore )[a-z0-9-]+ [^'`]*\1", "", text)


def test_the_commands_of_the_pages_are_understood() -> None:
    """Also those that no test runs (tests/pages.py)."""
    text = "".join(block.text for block in shown.blocks(PAGES) if block.language != "text")
    lines = re.findall(r"^(?:\$ | +cmd: )?virtstore ([^|>#&\n]+)", text, re.M)
    assert len(lines) > 20
    for line in lines:
        # `-` is a location, which the parser by itself takes for an option.
        parse(["/x" if word == "-" else word for word in shlex.split(line)])


def test_the_jobs_of_the_pages_are_understood(tmp_path: Path) -> None:
    begun = r"^(?:```toml|.*<<END)\n((?:sources|target) = .*?)^(?:```|END)$"
    blocks = re.findall(begun, PAGES, re.M | re.S)
    assert blocks
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.toml"
        file.write_text(block)
        file.chmod(0o644)
        assert job_file.read(str(file)).said.target


def test_the_configurations_of_the_pages_are_understood(tmp_path: Path) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", PAGES, re.M | re.S)
    blocks += re.findall(r"<<END\n(\[.*?)^END", PAGES, re.M | re.S)
    assert len(blocks) > 3
    others = ("[hosts.", "[default]", "sources", "target")
    for block in (each for each in blocks if not each.startswith(others)):
        assert load(tmp_path, block.replace("$HOME", "/home/alice")).roots  # as a shell does


def test_the_hosts_file_of_the_documentation_is_understood(tmp_path: Path) -> None:
    from virtstore.client import ssh

    assert ssh.__doc__
    file = tmp_path / "hosts.toml"
    file.write_text("\n".join(re.findall(r"^    (.*)", ssh.__doc__, re.M)))
    assert read_hosts(str(file))["a"].agent == "sudo virtstore-agent"


def test_the_hosts_files_of_the_pages_are_understood(tmp_path: Path) -> None:
    blocks = re.findall(r"^```toml\n(\[hosts\..*?)^```", PAGES, re.M | re.S)
    assert blocks
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.toml"
        file.write_text(block)
        assert all(host.agent for host in read_hosts(str(file)).values())


def test_the_agents_of_the_pages_are_understood() -> None:
    told = re.findall(r'command="virtstore-agent ([^"]+)"', PAGES)
    assert told
    for line in told:
        agent.parser().parse_args(shlex.split(line))


@pytest.mark.parametrize("access", ["read", "append", "write"])
@pytest.mark.parametrize(
    "tree",
    [
        "/srv/x",
        '/srv/a"b',
        "/srv/a\\b",
        "/srv/a b",
        "/srv/ü\t",
        "/srv/\x7f",
        "/srv/'''",
        "/dev/vg7",
    ],
)
def test_the_lines_that_allow_a_place_allow_it(tmp_path: Path, tree: str, access: Access) -> None:
    with pytest.raises(Denied) as raised:
        Policy(load(tmp_path, "")).require(f"{tree}/x.img", access)
    lines = raised.value.message.partition("\n\n")[2]
    before = '[limits]\nmax_image_size = "2T"\n[[directory]]\npath = "/a"\n'
    policy = Policy(load(tmp_path, before + lines))
    assert policy.may(f"{tree}/x.img", access)
    assert access == "write" or not policy.may(f"{tree}/x.img", "write")


def test_the_lines_that_allow_mounting_allow_it(tmp_path: Path) -> None:
    before = '[[directory]]\npath = "/a"\n'
    with pytest.raises(Denied) as raised:
        Policy(load(tmp_path, before)).require_mounting("xfs")
    lines = raised.value.message.partition("\n\n")[2]
    assert lines == hints.MOUNTING
    assert Policy(load(tmp_path, before + lines)).may_mount
    only_the_second = lines.splitlines()[1]
    assert Policy(load(tmp_path, f'[limits]\nmax_image_size = "2T"\n{only_the_second}')).may_mount
    assert "in place of one that says false" in raised.value.message
    with pytest.raises(Error, match="is not TOML"):  # as both of them would be
        load(tmp_path, f"{lines}mount_guest_filesystems = false\n")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/srv/tour/~/images/x", "write the whole path"),
        ("/etc/passwd", "/etc is the system's own"),
        ("/x.img", "/ is the system's own"),
        ("/usr/bin/x", "the system's own"),
        ("/dev/null", "a volume group has /dev/VG/LV"),
        ("/dev/null/x", "a volume group has /dev/VG/LV"),
        ("/dev/rbd", "an RBD pool has /dev/rbd/POOL/IMAGE"),
        ("/dev/mapper/control", "a volume group has /dev/VG/LV"),
    ],
)
def test_what_cannot_be_allowed_is_no_line_to_write(tmp_path: Path, path: str, says: str) -> None:
    with pytest.raises(Denied, match=says) as raised:
        Policy(load(tmp_path, '[[directory]]\npath = "/srv/images"\n')).require(path, "append")
    assert "what it allows is /srv/images (read)" in raised.value.message
    assert "[[" not in raised.value.message


def load(directory: Path, text: str) -> config.Config:
    file = directory / "c.toml"
    file.write_text(text)
    file.chmod(0o600)
    return config.load(str(file))
