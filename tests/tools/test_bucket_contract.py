"""What the contract of stores says of archives is so in a bucket: the same tests as elsewhere."""

from __future__ import annotations

from tests.contract.test_backends_changes import (
    test_an_archive_takes_over_ranges_of_another as test_an_archive_takes_over_ranges_of_another,
)
from tests.contract.test_backends_changes import (
    test_an_archive_that_was_left_is_taken_up_and_can_be_cut as test_an_archive_is_taken_up,
)
from tests.tools.test_bucket_store import place, store

__all__ = [
    "place",
    "store",
    "test_an_archive_is_taken_up",
    "test_an_archive_takes_over_ranges_of_another",
]
