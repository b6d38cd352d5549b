"""Requests to a server of S3: signed, and tried again (connections.py has one try).

Any number of threads ask at once, each on a connection of its own. `stop` wakes those that wait for
another try. What is raised is one of virtstore's errors, and never has a secret in it.

Host tools needed: none.

Source: AWS, "Common request headers" in the API reference of Amazon S3.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from virtstore.backends.bucket import complaints, sigv4
from virtstore.backends.bucket.address import Address
from virtstore.backends.bucket.connections import NOTHING, Answer, Body, Connections
from virtstore.backends.bucket.credentials import Credentials
from virtstore.backends.bucket.patience import BUSY, BUSY_CODES, Patience
from virtstore.errors import ConnectionFailed, Error, Interrupted
from virtstore.version import __version__

#: The longest answer that is no object's.
_LONGEST: Final = 16 << 20
#: What a connection fails with, and a further try may not.
_BROKEN: Final = (OSError, http.client.HTTPException)


class Client:
    """One bucket, asked with one user's credentials."""

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        region: str,
        patience: Patience | None = None,
    ) -> None:
        self.address = address
        self.credentials = credentials
        self._region = region
        self._patience = patience or Patience()
        self._connections = Connections(address)
        self._answered = False
        self._is_down = False

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._connections.close()

    def ask(
        self,
        method: str,
        key: str,
        action: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = NOTHING,
        takes: tuple[int, ...] = (),
        most: int = _LONGEST,
        stop: threading.Event | None = None,
    ) -> Answer:
        """Ask, and have the answer. `action`: the permission that it takes, for messages. Statuses
        that are errors are raised, but for those that the caller `takes`. `most`: bytes of the
        answer. Raises `Interrupted` once `stop` is set."""
        stop = stop or threading.Event()
        since, failure = None, None
        for wait in self._patience.waits():
            if stop.is_set():
                raise Interrupted("the upload was stopped")
            try:
                answer = self._once(method, key, query or {}, headers or {}, body, most)
            except _BROKEN as error:
                failure, asked_for = self._broken(error), 0.0
                self.close()  # the server may have closed them all
            else:
                if (query or method in ("POST", "PUT")) and answer.is_error:
                    answer = answer._replace(status=complaints.status_of(answer.body))
                if answer.status < 300 or answer.status in takes:
                    self._is_down = False
                    return answer._replace(again=since is not None)
                complaint = complaints.of_answer(answer.status, answer.headers, answer.body)
                failure = complaint.error(self.address, action, self.credentials.source)
                if answer.status not in BUSY and complaint.code not in BUSY_CODES:
                    raise failure
                asked_for = self._patience.asked_for(answer.headers.get("retry-after"))
            since = since or time.monotonic()
            if time.monotonic() + max(wait, asked_for) - since > self._patient:
                self._is_down = True
                raise failure
            stop.wait(max(wait, asked_for))
        raise AssertionError("patience has no end of its own")

    @property
    def _patient(self) -> float:
        """Seconds for which it is tried again. Once they were for nothing there are no more."""
        if self._is_down:
            return 0
        return self._patience.known if self._answered else self._patience.unknown

    def _broken(self, error: OSError | http.client.HTTPException) -> Error:
        """The error of a connection. Raises it where no further try helps."""
        server = self.address.server
        if isinstance(error, ssl.SSLCertVerificationError):
            raise ConnectionFailed(
                f"the certificate of {server} is not one that this host trusts"
                f" ({error.verify_message}); add the authority that signed it to those of the host"
                " (update-ca-certificates)"
            ) from None
        if isinstance(error, socket.gaierror):
            why = f"its name is not known here ({error.strerror})"
        elif isinstance(error, TimeoutError):
            why = "it does not answer in time"
        elif isinstance(error, ssl.SSLError):
            why = f"it does not speak TLS as expected ({error.reason})"
        else:
            why = (error.strerror if isinstance(error, OSError) else None) or "the connection broke"
        return ConnectionFailed(f"{server} cannot be reached: {why}")

    def _once(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Body,
        most: int,
    ) -> Answer:
        """One try. Raises what the connection fails with."""
        path = self.address.path(key)
        sent = self._signed(method, path, query, headers, body)
        target = sigv4.encoded_path(path)
        if query:
            target += f"?{sigv4.encoded_query(query)}"
        answer = self._connections.exchange(method, target, sent, body, most)
        self._answered = True
        return answer

    def _signed(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Body,
    ) -> dict[str, str]:
        """All headers of a request."""
        sent = {name.lower(): value for name, value in headers.items()}
        sent["host"] = self.address.host
        sent["x-amz-date"] = sigv4.stamp(datetime.now(UTC))
        sent["x-amz-content-sha256"] = body.sha256
        if body.length:  # an object that is locked takes nothing without
            sent["content-md5"] = body.md5
        if self.credentials.token:
            sent["x-amz-security-token"] = self.credentials.token
        canonical = sigv4.canonical_request(method, path, query, sent, body.sha256)
        sent["authorization"] = sigv4.authorization(
            canonical,
            sent,
            key_id=self.credentials.key_id,
            secret=self.credentials.secret,
            region=self._region,
        )
        sent["user-agent"] = f"virtstore/{__version__}"
        sent["accept-encoding"] = "identity"  # not signed: what is in between may change it
        if method in ("PUT", "POST") or body.length:
            sent["content-length"] = str(body.length)
        return sent
