"""Signatures of requests to S3, against the worked examples of its API reference ("Authenticating
Requests: Using the Authorization Header")."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest

from virtstore.backends.bucket import sigv4

_KEY_ID = "AKIAIOSFODNN7EXAMPLE"
_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
_WHEN = "20130524T000000Z"
_EMPTY = hashlib.sha256(b"").hexdigest()
_BODY = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()
_HOST = {"host": "examplebucket.s3.amazonaws.com", "x-amz-date": _WHEN}


def _signed(
    method: str,
    path: str,
    query: dict[str, str],
    more: dict[str, str],
    payload: str = _EMPTY,
) -> str:
    headers = {**_HOST, "x-amz-content-sha256": payload, **more}
    canonical = sigv4.canonical_request(method, path, query, headers, payload)
    return sigv4.authorization(
        canonical, headers, key_id=_KEY_ID, secret=_SECRET, region="us-east-1"
    )


@pytest.mark.parametrize(
    ("method", "path", "query", "more", "payload", "signature"),
    [
        (
            *("GET", "/test.txt", {}, {"range": "bytes=0-9"}, _EMPTY),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            *("PUT", "/test$file.text", {}),
            {
                "date": "Fri, 24 May 2013 00:00:00 GMT",
                "x-amz-storage-class": "REDUCED_REDUNDANCY",
            },
            _BODY,
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            *("GET", "/", {"lifecycle": ""}, {}, _EMPTY),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            *("GET", "/", {"prefix": "J", "max-keys": "2"}, {}, _EMPTY),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_the_examples_of_the_specification_have_their_signatures(
    method: str,
    path: str,
    query: dict[str, str],
    more: dict[str, str],
    payload: str,
    signature: str,
) -> None:
    assert _signed(method, path, query, more, payload).endswith(f"Signature={signature}")


def test_the_header_names_the_key_the_scope_and_what_is_signed() -> None:
    said = _signed("GET", "/test.txt", {}, {"range": "bytes=0-9"})
    assert said.startswith(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
    )
    assert _SECRET not in said


def test_a_path_is_encoded_once_and_keeps_its_slashes() -> None:
    assert sigv4.encoded_path("/a b/ü+%~.zst") == "/a%20b/%C3%BC%2B%25~.zst"


def test_a_query_is_sorted_and_its_slashes_are_encoded() -> None:
    assert sigv4.encoded_query({"uploads": "", "prefix": "a/b c"}) == "prefix=a%2Fb%20c&uploads="


def test_a_moment_is_told_in_utc() -> None:
    assert sigv4.stamp(datetime(2013, 5, 24, tzinfo=UTC)) == _WHEN
