"""Locations: each spelling names one place, and what could be an option or a line is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtstore.errors import UsageError
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


def test_a_host_is_called_as_the_user_wrote_it() -> None:
    assert (LOCAL.name, HostAddress("a", "u", 22).name) == ("local", "a")
