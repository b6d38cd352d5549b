"""Where the credentials for S3 are found, and that they are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtstore.backends.bucket import credentials
from virtstore.errors import Denied


def _home(tmp_path: Path, **files: str) -> dict[str, str]:
    """An environment whose home directory has these files below .aws."""
    (tmp_path / ".aws").mkdir()
    for name, text in files.items():
        (tmp_path / ".aws" / name).write_text(text)
    return {"HOME": str(tmp_path)}


_FILE = """
[default]
aws_access_key_id = AKDEFAULT
aws_secret_access_key = hidden%default

[other]
aws_access_key_id = AKOTHER
aws_secret_access_key = hidden-other
aws_session_token = token-other
"""


def test_the_environment_goes_before_the_files(tmp_path: Path) -> None:
    said = {
        **_home(tmp_path, credentials=_FILE),
        "AWS_ACCESS_KEY_ID": "AKENV",
        "AWS_SECRET_ACCESS_KEY": "hidden",
        "AWS_SESSION_TOKEN": "token",
        "AWS_REGION": "eu-north-1",
    }
    found = credentials.find(said)
    assert (found.credentials.key_id, found.credentials.secret) == ("AKENV", "hidden")
    assert (found.credentials.token, found.region) == ("token", "eu-north-1")


def test_the_file_has_the_default_profile_and_others(tmp_path: Path) -> None:
    said = _home(tmp_path, credentials=_FILE)
    assert credentials.find(said).credentials.secret == "hidden%default"
    other = credentials.find({**said, "AWS_PROFILE": "other"}).credentials
    assert (other.key_id, other.token) == ("AKOTHER", "token-other")


def test_another_file_can_be_named(tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text(_FILE)
    said = {"HOME": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": str(file)}
    assert credentials.find(said).credentials.key_id == "AKDEFAULT"


def test_the_region_and_credentials_may_be_in_the_config_file(tmp_path: Path) -> None:
    config = (
        "[default]\nregion = eu-west-1\n\n[profile other]\nregion = us-west-2\n"
        "aws_access_key_id = AKCONFIG\naws_secret_access_key = hidden\n"
    )
    said = _home(
        tmp_path,
        config=config,
        credentials="[default]\naws_access_key_id = AK\naws_secret_access_key = s\n",
    )
    assert credentials.find(said).region == "eu-west-1"
    found = credentials.find({**said, "AWS_PROFILE": "other"})
    assert (found.credentials.key_id, found.region) == ("AKCONFIG", "us-west-2")


def test_without_credentials_it_is_said_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(Denied, match=f"{tmp_path}/.aws/credentials"):
        credentials.find({"HOME": str(tmp_path)})


@pytest.mark.parametrize("text", ["hidden-secret\n", "[default\nhidden-secret = x\n"])
def test_a_broken_file_is_named_and_nothing_of_it_is_shown(tmp_path: Path, text: str) -> None:
    said = _home(tmp_path, credentials=text)
    with pytest.raises(Denied) as raised:
        credentials.find(said)
    assert "hidden" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert f"{tmp_path}/.aws/credentials" in str(raised.value)


def test_credentials_do_not_show_themselves() -> None:
    shown = credentials.Credentials("AK", "hidden", "hidden-token", "a file")
    assert "hidden" not in f"{shown!r} {shown} {shown!s}"


@pytest.mark.parametrize(
    "name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
)
@pytest.mark.parametrize("odd", ["line\nbreak", "a space", "\u00fcmlaut", "\x00"])
def test_what_cannot_be_sent_is_refused_and_not_shown(name: str, odd: str, tmp_path: Path) -> None:
    """What sends it would show it in an error."""
    said = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "s", "HOME": str(tmp_path)}
    with pytest.raises(Denied, match="line breaks") as raised:
        credentials.find({**said, name: f"hidden{odd}"})
    assert "hidden" not in raised.value.message


def test_a_line_break_at_the_end_of_credentials_is_none_of_theirs(tmp_path: Path) -> None:
    said = {"AWS_ACCESS_KEY_ID": "AKID\n", "AWS_SECRET_ACCESS_KEY": "s\n", "HOME": str(tmp_path)}
    found = credentials.find(said).credentials
    assert (found.key_id, found.secret) == ("AKID", "s")
