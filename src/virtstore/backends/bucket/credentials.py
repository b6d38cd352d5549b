"""The credentials that S3 is asked with: those of the user that the agent runs as.

They are looked for where every program looks for them: first in the environment, then in the shared
files. They are kept in memory, and are in no message, no representation and no argument.

Not looked for: what a cloud's own machine is given (IMDS), single sign-on, programs that make
credentials (`credential_process`).

Sources: AWS, "Shared config and credentials files" and "Environment variables" in the AWS SDKs and
Tools Reference Guide.
"""

from __future__ import annotations

import configparser
import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from virtstore.errors import Denied
from virtstore.location import own_home

#: What credentials are made of: ASCII that is seen.
_SAYABLE: Final = re.compile("[!-~]+")
#: What S3 servers that know no regions take, and AWS's first.
DEFAULT_REGION: Final = "us-east-1"


class Credentials:
    """`key_id` is public, `secret` and `token` (of a session; "" for none) are not. `source`: where
    they were found."""

    __slots__ = ("key_id", "secret", "source", "token")

    def __init__(self, key_id: str, secret: str, token: str, source: str) -> None:
        """Raises `Denied` for what no credentials have, which nothing that sends it is to see: its
        error would show it."""
        self.key_id, self.secret, self.token = (each.strip() for each in (key_id, secret, token))
        self.source = source
        if not _SAYABLE.fullmatch(f"{self.key_id}{self.secret}{self.token}"):
            raise Denied(
                f"the credentials for S3 from {source} have spaces, line breaks or other characters"
                " in them that none have; write them again"
            )

    def __repr__(self) -> str:
        return f"<credentials of {self.source}>"


class Found(NamedTuple):
    """What is there for a user: the credentials, and the region ("" if none is said)."""

    credentials: Credentials
    region: str


def find(environment: Mapping[str, str] | None = None) -> Found:
    """The credentials of the agent's user, and his region. Raises `Denied` where there are none, or
    a file of them cannot be read."""
    said = os.environ if environment is None else environment
    home = said.get("HOME") or own_home()
    profile = said.get("AWS_PROFILE") or "default"
    config = _section(_config_file(said, home), profile, config=True)
    region = said.get("AWS_REGION") or said.get("AWS_DEFAULT_REGION") or config.get("region", "")
    credentials = _of_environment(said)
    if credentials is None:
        file = _credentials_file(said, home)
        credentials = _of_section(_section(file, profile), file, profile)
    credentials = credentials or _of_section(config, _config_file(said, home), profile)
    if credentials is None:
        file = _credentials_file(said, home)
        raise Denied(
            "there are no credentials for S3: the agent's user has neither AWS_ACCESS_KEY_ID and"
            f" AWS_SECRET_ACCESS_KEY in its environment, nor [{profile}] with aws_access_key_id and"
            f" aws_secret_access_key in {file}; write that file, with mode 0600"
        )
    return Found(credentials, region)


def is_open_to_others(file: str) -> bool:
    """Whether users other than the owner of a file may read it."""
    with suppress(OSError):
        return bool(os.stat(file).st_mode & (stat.S_IRGRP | stat.S_IROTH))
    return False


def files(environment: Mapping[str, str] | None = None) -> list[str]:
    """The files in which credentials may be."""
    said = os.environ if environment is None else environment
    home = said.get("HOME") or own_home()
    return [_credentials_file(said, home), _config_file(said, home)]


def _of_environment(said: Mapping[str, str]) -> Credentials | None:
    key_id, secret = said.get("AWS_ACCESS_KEY_ID"), said.get("AWS_SECRET_ACCESS_KEY")
    if not key_id or not secret:
        return None
    token = said.get("AWS_SESSION_TOKEN", "")
    return Credentials(key_id, secret, token, "the environment of the agent")


def _of_section(section: Mapping[str, str], file: str, profile: str) -> Credentials | None:
    key_id, secret = section.get("aws_access_key_id"), section.get("aws_secret_access_key")
    if not key_id or not secret:
        return None
    token = section.get("aws_session_token", "")
    return Credentials(key_id, secret, token, f"[{profile}] in {file}")


def _credentials_file(said: Mapping[str, str], home: str) -> str:
    return said.get("AWS_SHARED_CREDENTIALS_FILE") or f"{home}/.aws/credentials"


def _config_file(said: Mapping[str, str], home: str) -> str:
    return said.get("AWS_CONFIG_FILE") or f"{home}/.aws/config"


def _section(file: str, profile: str, *, config: bool = False) -> Mapping[str, str]:
    """A profile's keys in one of the files; none where that is not there."""
    parser = configparser.RawConfigParser(default_section="\0", strict=False)
    try:
        with open(file, encoding="utf-8") as lines:
            parser.read_file(lines)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeError, configparser.Error) as error:
        # What the parser says has the line in it, which may be a secret.
        why = error.strerror if isinstance(error, OSError) else "it is no file of that kind"
        raise Denied(
            f"{file}, which may have the credentials for S3, cannot be read: {why}"
        ) from None
    name = f"profile {profile}" if config and profile != "default" else profile
    return dict(parser[name]) if parser.has_section(name) else {}
