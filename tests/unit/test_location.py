"""Locations: each spelling names one place, and what could be an option or a line is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from virtstore.errors import NotFound, UsageError
from virtstore.location import LOCAL, HostAddress, Location, parse_host, parse_location

_PLAIN = st.characters(codec="utf-8", min_codepoint=32, exclude_characters="\x7f")
PATHS = st.text(_PLAIN, max_size=30).map(lambda text: "/" + text)
WORDS = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,12}", fullmatch=True)
HOSTS = st.one_of(WORDS, st.ip_addresses(v=6).map(str)).filter(lambda host: host != "local")
ADDRESSES = st.builds(
    HostAddress,
    host=HOSTS,
    user=st.none() | WORDS,
    port=st.none() | st.integers(1, 65535),
)


@given(PATHS)
def test_a_local_path_is_kept_as_it_is_written(path: str) -> None:
    location = parse_location(path)
    assert location == Location(LOCAL, path)
    assert parse_location(str(location)) == location


@given(HOSTS, st.none() | WORDS, PATHS | st.none())
@example("a", None, "//images/x%20y.img")
def test_scp_spelling_round_trips(host: str, user: str | None, path: str | None) -> None:
    location = Location(HostAddress(host, user), path)
    assert parse_location(str(location)) == location


@given(ADDRESSES)
def test_a_host_as_a_whole_round_trips(address: HostAddress) -> None:
    assert parse_host(str(address)) == address
    assert parse_location(str(address)) == Location(address)


@pytest.mark.parametrize(
    ("text", "host", "user", "port", "path"),
    [
        ("a:/x", "a", None, None, "/x"),
        ("root@a:/x:y", "a", "root", None, "/x:y"),
        ("[fe80::1%eth0]:/x", "fe80::1%eth0", None, None, "/x"),
        ("ssh://a", "a", None, None, None),
        ("ssh://a/", "a", None, None, None),
        ("ssh://u@a:2222/x/y", "a", "u", 2222, "/x/y"),
        ("ssh://[::1]:22/x", "::1", None, 22, "/x"),
        ("ssh://a:/x", "a", None, None, "/x"),
        ("ssh://a/with%20space", "a", None, None, "/with space"),
        ("a:", "a", None, None, None),
        ("local:", None, None, None, None),
        ("local:/x", None, None, None, "/x"),
        ("./a:b", None, None, None, "/here/a:b"),
        ("/a:b", None, None, None, "/a:b"),
        ("x.img", None, None, None, "/here/x.img"),
        (".", None, None, None, "/here"),
        ("../x", None, None, None, "/here/../x"),  # for the agent to refuse
    ],
)
def test_spellings(
    text: str, host: str | None, user: str | None, port: int | None, path: str | None
) -> None:
    wanted = Location(HostAddress(host, user, port), path)
    assert parse_location(text, directory="/here") == wanted


REFUSED = [
    "", "-oProxyCommand=x:/y", "-x@a:/y", "u@-a:/y", "ssh://-a/x", "ssh://-u@a/x", "ssh:///x",
    "ssh://", "a b:/x", "a:x", "a:./x", "@a:/x", "ssh://@a/x", "ssh://a:0/x", "ssh://a:65536/x",
    "ssh://a:12x/y", "/x\n", "/x\0y", "a:/x\r", "ssh://a/x%00", "ssh://a/%0a", ":/x",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_no_program_should_be_given_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_location(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("local:", LOCAL),
        ("local", LOCAL),
        ("a", HostAddress("a")),
        ("u@a", HostAddress("a", "u")),
        ("a:", HostAddress("a")),
        ("ssh:a", HostAddress("a")),
        ("ssh:u@a", HostAddress("a", "u")),
        ("ssh://a:2222", HostAddress("a", None, 2222)),
        ("ssh://a/", HostAddress("a")),
    ],
)
def test_a_host_has_many_spellings(text: str, address: HostAddress) -> None:
    assert parse_host(text) == address


@pytest.mark.parametrize("text", ["", "a:/x", "ssh://a/x", "/x", "-a", "ssh:-a", "u@-a", "a\n"])
def test_a_path_or_an_option_is_no_host(text: str) -> None:
    with pytest.raises(UsageError):
        parse_host(text)


@pytest.mark.parametrize("text", ["a,b", "a b", "node{1..3}", "node[1-3]", "{a,b}"])
def test_several_hosts_in_one_word_are_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(UsageError, match="several are several words"):
        parse_host(text)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (LOCAL, "local"),
        (HostAddress("a"), "a"),
        (HostAddress("a", "u"), "u@a"),
        (HostAddress("::1"), "[::1]"),
        (HostAddress("a", None, 22), "ssh://a:22"),
        (HostAddress("fe80::1%eth0", "u", 22), "ssh://u@[fe80::1%eth0]:22"),
    ],
)
def test_a_host_is_called_as_the_user_wrote_it(address: HostAddress, name: str) -> None:
    assert address.name == name


@given(ADDRESSES, PATHS.filter(lambda path: path != "/"))
def test_a_place_on_a_host_is_printed_as_it_can_be_typed(address: HostAddress, path: str) -> None:
    assert parse_host(address.name) == address
    wanted = Location(address, path)
    assert parse_location(str(wanted)) == wanted
    assert parse_location(NotFound("", host=address.name, path=path).where) == wanted
    assert parse_host(NotFound("", host=address.name).where) == address


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("rsync://a/p", "a:/p"),
        ("rsync://u@a:873/m/p", "u@a:/m/p"),
        ("file:///x/y", "/x/y"),
        ("FILE://localhost/x", "/x"),
        ("file://a/x", "a:/x"),
        ("http://a/x.img", "a:/path"),
        ("sftp://u@a:22/p", "ssh://u@a:22/p"),
        ("scp://a/p", "ssh://a/p"),
        ("nbd://a", "a:/path"),
        ("::1:/p", "[::1]:/p"),
        ("::1", "[::1]:"),
        ("u@fe80::1%eth0:/p", "u@[fe80::1%eth0]:/p"),
        ("::ffff:1.2.3.4:/p", "[::ffff:1.2.3.4]:/p"),
        ("ssh://2001:db8::1/p", "ssh://[2001:db8::1]/p"),
        ("[::1]:22/p", "ssh://[::1]:22/p"),
        ("a:22/p", "ssh://a:22/p"),
        ("u@a:2222", "ssh://u@a:2222"),
        ("a:22:/p", "ssh://a:22/p"),
        ("a::", "a:/"),
        ("a::/p", "a:/p"),
        ("u@a::module/p", "u@a:/module/p"),
        ("ssh:a:/p", "a:/p"),
        ("ssh:u@a:/p", "u@a:/p"),
        ("a:~/x.img", "a:/home/…/x.img"),
        ("u@a:~bob/x.img", "u@a:/home/…/x.img"),
        ("a:d/x.img", "a:/…/d/x.img"),
    ],
)
def test_the_spelling_of_another_program_is_refused_with_the_right_one(
    text: str, right: str
) -> None:
    with pytest.raises(UsageError) as refused:
        parse_location(text)
    found = re.search(r"write (\S+?)[,;:]?(?: |$)", refused.value.message)
    assert found, refused.value.message
    assert found[1] == right.removesuffix(":")
    if "//" not in text and "/" not in text:
        with pytest.raises(UsageError, match=re.escape(right)):
            parse_host(text)
    parse_location(right)


def test_a_relative_path_in_a_directory_that_is_gone_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(NotFound, match="current directory was removed; go to one that is there"):
        parse_location("./x.img")
    assert parse_location("/x.img").path == "/x.img"


def test_a_scheme_may_be_written_in_capitals() -> None:
    assert parse_location("SSH://a/p") == parse_location("ssh://a/p")


def test_a_location_that_is_not_utf_8_is_refused_with_its_bytes() -> None:
    with pytest.raises(UsageError, match=r"x\\xff\.img: a location is UTF-8"):
        parse_location(b"/x\xff.img".decode("utf-8", "surrogateescape"))
