"""What the client finds out about the way to a host, and how it tells that."""

from __future__ import annotations

from typing import Any, Final

import pytest

from virtstore import processor
from virtstore.client import examination
from virtstore.client.examination import Seen, findings
from virtstore.findings import note, ok, problem, warning
from virtstore.model import Finding
from virtstore.protocol import Examined, known_requests

_DEFAULT: Final = "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com,aes256-ctr"


@pytest.fixture(autouse=True)
def with_aes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "has_aes", lambda: True)


def seen(
    *,
    clock: float = 1000.0,
    aes: bool = True,
    knows: tuple[str, ...] | None = None,
    ciphers: str = _DEFAULT,
    login: float = 0.3,
    alone: bool = True,
    far: bool = True,
) -> Seen:
    known = known_requests() if knows is None else knows
    answer = Examined((ok("all is well"),), clock, aes, known)
    return Seen(answer, "0.1.0", login, 1000.0, {"ciphers": ciphers}, alone, far)


def unusual(of: Seen) -> list[Finding]:
    return [each for each in findings(of) if each.severity != "ok"]


def test_nothing_is_unusual_on_the_way_to_a_healthy_host() -> None:
    assert unusual(seen()) == []
    assert len(findings(seen())) == 1 + 4


def test_the_worst_comes_first() -> None:
    found = [ok("a"), note("b", "-"), problem("c", "-"), warning("d", "-"), problem("e", "-")]
    assert [each.what for each in examination.in_order(found)] == ["c", "e", "d", "b", "a"]
    word: Any = "catastrophe"  # a newer host's
    strange = Finding("a", word, "f", "-")
    assert examination.in_order([*found, strange])[2] == strange
    assert strange.is_wrong


@pytest.mark.parametrize(
    ("clock", "says"), [(1060.0, "60 s ahead of this"), (940.0, "60 s behind this")]
)
def test_clocks_that_differ_are_told(clock: float, says: str) -> None:
    (told,) = unusual(seen(clock=clock))
    assert (told.severity, says in told.what) == ("warning", True)


def test_what_only_one_end_knows_is_told() -> None:
    fewer = tuple(each for each in known_requests() if "ResizeImage" not in each)
    (told,) = unusual(seen(knows=fewer))
    assert "there does not know all that" in told.what
    assert "ResizeImage" in told.what
    (told,) = unusual(seen(knows=(*known_requests(), "TeleportImage", "TeleportImage.path")))
    assert "here does not know all that" in told.what
    assert "TeleportImage, TeleportImage.path" in told.what


def test_a_cipher_that_is_slow_on_these_processors_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    (told,) = unusual(seen(ciphers="chacha20-poly1305@openssh.com,aes256-ctr"))
    assert "not allowed to use AES-GCM" in told.what
    (told,) = unusual(seen(aes=False))
    assert "the processor there has no instructions for AES" in told.what
    assert "Ciphers chacha20-poly1305" in (told.remedy or "")
    assert unusual(seen(aes=False, ciphers="chacha20-poly1305@openssh.com")) == []
    monkeypatch.setattr(processor, "has_aes", lambda: False)
    assert unusual(seen(aes=False)) == []  # AES is not what ssh begins with
    (told,) = unusual(seen(aes=False, ciphers="aes128-gcm@openssh.com"))
    assert "the processor here and there has no" in told.what


def test_a_slow_login_is_told_where_no_connection_is_shared() -> None:
    (told,) = unusual(seen(login=3.0))
    assert "opening a session took 3.0 s" in told.what
    assert "ControlMaster auto" in (told.remedy or "")
    assert unusual(seen(login=3.0, alone=False)) == []


def test_of_this_machine_itself_nothing_of_a_way_is_said() -> None:
    assert [each.what for each in findings(seen(clock=0.0, login=9.0, far=False))] == [
        "all is well"
    ]
