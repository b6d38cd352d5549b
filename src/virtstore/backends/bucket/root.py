"""`[[bucket]]`: a bucket of an object store that speaks S3, or a part of one, for archives.

Few hosts have one, so what works on it is imported when it is opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Self

from msgspec import Meta
from msgspec.structs import replace

from virtstore.backends.base import Store
from virtstore.backends.root import Root, WrongValue
from virtstore.errors import Denied, NotFound
from virtstore.model import Access, EntryType, Finding, PlaceInfo

if TYPE_CHECKING:
    from virtstore.backends.bucket.address import Address

_NAME: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,63}")
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_REGION: Final = re.compile(r"[A-Za-z0-9-]*")
_TREE: Final = "/s3"


class BucketRoot(Root, frozen=True):
    """`[[bucket]]`. `name`: what it is called here; `endpoint`: `https://HOST[:PORT]`; `bucket`:
    what the server calls it; `prefix`: what all keys begin with; `region`: "" for that of the
    credentials; `path_style`: whether the bucket's name is in the path (None: not at AWS);
    `patience`: the seconds for which an outage of the server is waited out."""

    section: ClassVar[str] = "bucket"
    listed: ClassVar[EntryType] = "bucket"
    what: ClassVar[str] = "a bucket"
    makes_directories: ClassVar[bool] = True
    spelled: ClassVar[str] = "/s3/BUCKET/KEY"

    name: str
    endpoint: str
    bucket: str
    prefix: str = ""
    region: str = ""
    access: Access = "read"
    path_style: bool | None = None
    patience: Annotated[int, Meta(ge=1, le=3600)] = 60

    @property
    def path(self) -> str:
        return f"{_TREE}/{self.name}"

    @classmethod
    def claims(cls, path: str, tree: str, access: Access) -> Self | None:
        """Whatever lies below /s3, where this host has no such directory."""
        first = path.removeprefix(f"{_TREE}/").split("/")[0]
        looks_so = path.startswith(f"{_TREE}/") and _NAME.fullmatch(first)
        if not looks_so or os.path.isdir(_TREE):
            return None
        return cls(first, "https://s3.example.com", first, access=access)

    def check(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise WrongValue(
                "name", f'{self.name!r} cannot be in a path; it is letters and digits, as "backups"'
            )
        if not _BUCKET.fullmatch(self.bucket):
            raise WrongValue("bucket", f"{self.bucket!r} is no bucket's name")
        if not _REGION.fullmatch(self.region):
            raise WrongValue("region", f'{self.region!r} is no region; it is as "eu-central-1"')
        self._check_prefix()
        try:
            self.address_of_bucket()
        except ValueError as error:
            raise WrongValue("endpoint", f"{self.endpoint!r} is no endpoint: {error}") from None

    def _check_prefix(self) -> None:
        parts = self.prefix.split("/")
        whole = not self.prefix or (parts[-1] == "" and all(parts[:-1]))
        if not whole or {".", ".."} & set(parts) or not self.prefix.isprintable():
            raise WrongValue(
                "prefix", f'{self.prefix!r} is no prefix of keys; it ends in a slash, as "site-a/"'
            )

    def address_of_bucket(self) -> Address:
        """Where it is. Raises ValueError for a wrong endpoint."""
        from virtstore.backends.bucket.address import Address

        return Address.of(self.endpoint, self.bucket, self.path_style)

    def part(self, path: str) -> Self:
        inside = path.removeprefix(self.path).strip("/")
        return replace(self, name=f"{self.name}/{inside}", prefix=f"{self.prefix}{inside}/")

    def refuse_overlap(self, others: Iterable[Root]) -> None:
        for other in others:
            if not isinstance(other, BucketRoot):
                continue
            same = other.address_of_bucket() == self.address_of_bucket()
            if same and (
                other.prefix.startswith(self.prefix) or self.prefix.startswith(other.prefix)
            ):
                raise Denied(
                    f"{other.path}, which is configured as well, has keys of it; give them prefixes"
                    " of which none begins with another, or take one out of the configuration",
                    path=self.path,
                )

    def open(self, anchor: int, inside: str, name: str = "") -> Store:
        from virtstore.backends.bucket import credentials
        from virtstore.backends.bucket.client import Client
        from virtstore.backends.bucket.objects import Objects
        from virtstore.backends.bucket.patience import Patience
        from virtstore.backends.bucket.store import Bucket

        found = credentials.find()
        region = self.region or found.region or credentials.DEFAULT_REGION
        patience = Patience(known=self.patience)
        client = Client(self.address_of_bucket(), found.credentials, region, patience)
        prefix = f"{self.prefix}{inside}/" if inside else self.prefix
        store = Bucket(Objects(client), prefix, name)
        try:
            if inside and not name and not store.has_any():
                raise NotFound(
                    "nothing in the bucket lies below that; what is copied there is named whole:"
                    f" {self.path}/{inside}/NAME",
                    path=f"{self.path}/{inside}",
                )
        except BaseException:
            store.close()
            raise
        return store

    def describe(self, store: Store, access: Access) -> tuple[PlaceInfo, str]:
        return PlaceInfo(self.path, access, "bucket", 0, 0), ""

    def examine(self, store: Store, access: Access) -> Iterator[Finding]:
        from virtstore.backends.bucket import health
        from virtstore.backends.bucket.store import Bucket

        assert isinstance(store, Bucket)
        yield from health.examine(self.path, store.client, access)

    def lines(self) -> str:
        said = [f'[[{self.section}]]\nname = "{self.name}"\nendpoint = "{self.endpoint}"']
        said += [
            f'{key} = "{value}"'
            for key in ("bucket", "prefix", "region")
            if (value := getattr(self, key))
        ]
        if self.patience != 60:
            said.append(f"patience = {self.patience}")
        if self.path_style is not None:
            said.append(f"path_style = {str(self.path_style).lower()}")
        return "\n".join([*said, f'access = "{self.access}"\n'])
