"""Work done by several threads whose results come in order.

Reading, hashing, compressing and writing all release the interpreter's lock, so threads
use every processor; at most `depth` results wait, so memory is bounded whatever the size
of an image.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Threads of one pipeline. More would not make one image faster, only larger in memory.
WORKERS: Final = min(4, os.cpu_count() or 1)


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, depth: int = 2 * WORKERS
) -> Iterator[Result]:
    """`work(item)` of each item, in the items' order, computed ahead by `WORKERS` threads.

    The first exception, of `work` or of `items`, is raised where its result would have
    come, and nothing more is started. Closing the iterator waits for what is being worked on.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="transfer")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            while len(waiting) >= depth or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
