"""`python -m bench.objects put|get KEY`: an object from standard input, or to standard output, by
obstore alone, as short as it can be written, and as fast: of either several parts are on their way
at once. The bucket is `$BENCH_BUCKET` at `$BENCH_ENDPOINT`."""

from __future__ import annotations

import importlib
import os
import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

_PART: Final = 8 << 20
#: As many as obstore sends if it is not told.
_AT_ONCE: Final = 12


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
        obstore.put(store, key, parts, chunk_size=_PART, max_concurrency=_AT_ONCE)
        return
    size = obstore.head(store, key)["size"]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ahead: deque[Future[Any]] = deque()
        for start in range(0, size, _PART):
            end = min(start + _PART, size)
            ahead.append(pool.submit(obstore.get_range, store, key, start=start, end=end))
            if len(ahead) == _AT_ONCE:
                sys.stdout.buffer.write(ahead.popleft().result())
        for part in ahead:
            sys.stdout.buffer.write(part.result())


if __name__ == "__main__":
    main()
