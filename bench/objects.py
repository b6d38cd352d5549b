"""`python -m bench.objects put|get KEY`: an object from standard input, or to standard output, by
obstore alone, as short as it can be written. The bucket is `$BENCH_BUCKET` at `$BENCH_ENDPOINT`."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final

_PART: Final = 8 << 20


def main() -> None:
    obstore = importlib.import_module("obstore")
    store = importlib.import_module("obstore.store").S3Store(
        os.environ["BENCH_BUCKET"],
        endpoint=os.environ["BENCH_ENDPOINT"],
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )
    verb, key = sys.argv[1:]
    if verb == "put":
        # Of something that cannot be sought it takes parts, which it sends as they are.
        parts = iter(lambda: sys.stdin.buffer.read(_PART), b"")
        obstore.put(store, key, parts, chunk_size=_PART)
        return
    for part in obstore.get(store, key).stream(min_chunk_size=_PART):
        sys.stdout.buffer.write(part)


if __name__ == "__main__":
    main()
