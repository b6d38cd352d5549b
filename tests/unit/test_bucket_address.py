"""Where a bucket is, and what a server's refusals come to."""

from __future__ import annotations

import itertools
import time
from email.utils import formatdate

import pytest

from virtstore import errors
from virtstore.backends.bucket import complaints
from virtstore.backends.bucket.address import Address
from virtstore.backends.bucket.patience import Patience


@pytest.mark.parametrize(
    ("endpoint", "bucket", "style", "host", "path"),
    [
        ("https://s3.example.com", "b", None, "s3.example.com", "/b/k"),
        ("http://127.0.0.1:9000", "b", None, "127.0.0.1:9000", "/b/k"),
        ("https://[2001:db8::1]:444/", "b", None, "[2001:db8::1]:444", "/b/k"),
        ("https://S3.Example.com:443", "b", None, "s3.example.com", "/b/k"),
        ("https://s3.eu-west-1.amazonaws.com", "bkt", None, "bkt.s3.eu-west-1.amazonaws.com", "/k"),
        ("https://s3.eu-west-1.amazonaws.com", "b.c", None, "s3.eu-west-1.amazonaws.com", "/b.c/k"),
        ("https://s3.example.com", "bkt", False, "bkt.s3.example.com", "/k"),
    ],
)
def test_a_bucket_is_in_the_path_or_in_the_name_of_the_server(
    endpoint: str, bucket: str, style: bool | None, host: str, path: str
) -> None:
    address = Address.of(endpoint, bucket, style)
    assert (address.host, address.path("k")) == (host, path)
    assert address.secure == endpoint.startswith("https")


@pytest.mark.parametrize(
    "endpoint",
    [
        "s3.example.com",
        "ftp://x",
        "https://x/y",
        "https://u:p@x",
        "https://",
        "https://x:y",
        "https://a b",
    ],
)
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Address.of(endpoint, "b", None)


def _error(status: int, code: str = "", **more: str) -> errors.Error:
    body = f"<Error><Code>{code}</Code><Message>it is so</Message></Error>" if code else ""
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    complaint = complaints.of_answer(status, headers, body.encode())
    return complaint.error(Address.of("https://s3", "vms", None), "s3:GetObject", "a file")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", errors.Denied),
        (403, "", errors.Denied),
        (403, "InvalidAccessKeyId", errors.Denied),
        (403, "SignatureDoesNotMatch", errors.Denied),
        (400, "ExpiredToken", errors.Denied),
        (404, "NoSuchBucket", errors.NotFound),
        (404, "", errors.NotFound),
        (403, "QuotaExceeded", errors.NoSpace),
        (507, "", errors.NoSpace),
        (501, "NotImplemented", errors.Unsupported),
        (503, "SlowDown", errors.ConnectionFailed),
        (500, "", errors.ConnectionFailed),
        (400, "Odd", errors.Error),
    ],
)
def test_a_refusal_is_an_error_of_its_kind(status: int, code: str, kind: type) -> None:
    error = _error(status, code)
    assert type(error) is kind
    assert "https://s3" in error.message or kind is errors.NotFound


def test_a_permission_that_is_missing_is_named() -> None:
    assert "s3:GetObject" in _error(403, "AccessDenied").message


def test_a_clock_that_is_off_is_told_by_how_much() -> None:
    date = formatdate(time.time() + 1800, usegmt=True)
    message = _error(403, "RequestTimeTooSkewed", date=date).message
    seconds = next(int(word) for word in message.split() if word.isdigit())
    assert abs(seconds - 1800) < 60
    assert "slow" in message


def test_another_region_is_named() -> None:
    assert 'region = "eu-west-1"' in _error(301, x_amz_bucket_region="eu-west-1").message


def test_an_answer_with_declarations_is_refused() -> None:
    with pytest.raises(errors.Corrupt):
        complaints.parsed(b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')


def test_waits_become_longer_and_have_an_end() -> None:
    waits = list(itertools.islice(Patience().waits(), 12))
    assert waits[0] < 0.3
    assert all(wait <= Patience().longest for wait in waits)
    assert waits[-1] > 2


@pytest.mark.parametrize(("said", "seconds"), [(None, 0), ("7", 7), ("x", 0), ("99999", 30)])
def test_a_server_may_ask_for_a_wait(said: str | None, seconds: float) -> None:
    assert Patience().asked_for(said) == seconds
