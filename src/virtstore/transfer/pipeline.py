"""Work done by several threads whose results come in order.

Reading, hashing, compressing and writing all release the interpreter's lock, so threads
use every processor; at most `depth` results wait, so memory is bounded whatever the size
of an image.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final, Generic, NamedTuple, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Threads of one pipeline. More would not make one image faster, only larger in memory.
WORKERS: Final = min(4, os.cpu_count() or 1)
#: Items that a thread takes at once, where they need not be waited for: to hand one over costs a
#: wake-up on either side.
BATCH: Final = 4


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    depth: int = 2 * WORKERS,
    batch: int = 1,
) -> Generator[Result, None, None]:
    """`work(item)` of each item, in the items' order. `WORKERS` threads compute them ahead, each
    `batch` items at once, and at most `depth` batches.

    The first exception, of `work` or of `items`, is raised where its result would have
    come, and nothing more is started. Closing the iterator waits for what is being worked on.
    """
    waiting: deque[Future[_Done[Result]]] = deque()
    rest = iter(items)
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="transfer")
    try:
        while together := list(islice(rest, batch)):
            waiting.append(pool.submit(_together, work, together))
            while len(waiting) >= depth or (waiting and waiting[0].done()):
                yield from waiting.popleft().result().results()
        while waiting:
            yield from waiting.popleft().result().results()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Done(NamedTuple, Generic[Result]):
    """The results of a batch, up to its first failure if it has one."""

    done: list[Result]
    failure: Exception | None

    def results(self) -> Iterator[Result]:
        yield from self.done
        if self.failure:
            raise self.failure


def _together(work: Callable[[Item], Result], batch: list[Item]) -> _Done[Result]:
    done: list[Result] = []
    try:
        for item in batch:
            done.append(work(item))
    except Exception as failure:
        return _Done(done, failure)
    return _Done(done, None)
