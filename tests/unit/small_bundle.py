"""A bundle that takes no time: two shell scripts, which tell its version."""

from __future__ import annotations

from virtstore.client.bundle import Bundle


def small_bundle(version: str, agent: str = "", machine: str = "x86_64") -> Bundle:
    said = f"#!/bin/sh\n{agent}\necho {version}\n".encode()
    return Bundle(
        {
            "bin/virtstore": said,
            "bin/virtstore-agent": said,
            "agent/virtstore/version.py": f'__version__ = "{version}"\n'.encode(),
            f"agent/one.cpython-311-{machine}-linux-gnu.so": b"\x7fELF",
            "client/two/__init__.py": b"two = 2\n",
        }
    )
