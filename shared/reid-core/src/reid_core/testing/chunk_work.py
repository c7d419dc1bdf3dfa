"""Work on chunks for tests of several processes, which cannot import the modules of tests."""

from __future__ import annotations

import os
from collections.abc import Sequence

__all__ = ["describe_chunk", "refuse_seven"]


def describe_chunk(items: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return each item with the number of the process that had it and the size of its chunk."""
    return [(item, os.getpid(), len(items)) for item in items]


def refuse_seven(items: Sequence[int]) -> Sequence[int]:
    """Return the items.

    Raises:
        ValueError: One of them is 7.
    """
    if 7 in items:
        raise ValueError("seven")
    return items
