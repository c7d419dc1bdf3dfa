"""One measurement in this process: time beside the matrix product alone, and peak memory.

A contestant's time is told as a ratio to the product of the same features, timed before and after
it in the same process, so that a busy machine slows both. Memory is the peak beyond what the
process held with the features loaded and everything imported and warm.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cost.memory import PeakMemory

__all__ = ["Measurement", "Prepared", "measure", "product_precision", "products", "timed"]

# Short work is repeated until this much time has passed; its median counts.
MIN_SECONDS = 0.5
# The product is held whole up to this size (2 GiB of float32).
WHOLE_PRODUCT_CELLS = 2**29

Prepared = Callable[[], Callable[[], object]]
"""Makes work ready (allocates what it is to have at hand) and returns it; it may be repeated."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one process measured.

    Attributes:
        seconds: Of the contestant.
        product_seconds: Of the product alone, mean of before and after.
        memory: Bytes beyond the features at the peak; of the GPU where the work is done there.
            None where the system does not tell.
        anonymous: The same without pages of files, sampled; None where the system does not tell.
        resident: Largest resident set of the whole process meanwhile, features included; None where
            the system does not tell.
    """

    seconds: float
    product_seconds: float
    memory: int | None
    anonymous: int | None
    resident: int | None


def measure(
    contestant: Prepared, product: Prepared, device: torch.device, scale: float = 1.0
) -> Measurement:
    """Time a contestant between two timings of the product.

    Args:
        contestant: What is measured.
        product: The product alone. Made ready before and again after, and released in between, so
            that its buffer is not the contestant's.
        device: Where both are computed.
        scale: How many times more cells the product has than ``product`` computes.
    """
    before = timed(product(), device)
    with PeakMemory(device) as peak:
        seconds = timed(contestant(), device)
    after = timed(product(), device)
    return Measurement(
        seconds=seconds,
        product_seconds=scale * (before + after) / 2,
        memory=peak.memory,
        anonymous=peak.anonymous,
        resident=peak.resident,
    )


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the median time of the work in seconds, the device's own queue included."""
    on_cuda = device.type == "cuda"
    if on_cuda:
        work()  # kernels are compiled and chosen for these shapes
        torch.cuda.synchronize(device)
    seconds: list[float] = []
    while sum(seconds) < MIN_SECONDS:
        begin = time.perf_counter()
        work()
        if on_cuda:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def products(rows: Tensor, columns: Tensor) -> dict[str, Prepared]:
    """Return ways to compute all inner products and to forget them, by name.

    Args:
        rows: (Q, D) features.
        columns: (G, D) features.

    Returns:
        For each a function that allocates its buffer and returns the product itself; ``whole`` is
        not there where the product would be too large.
    """
    num_rows, num_columns = len(rows), len(columns)
    # Rows and columns of a block.
    blocks = {
        "whole": (num_rows, num_columns),
        "rows": (256, num_columns),
        "tiles": (256, 4096),
        "wide tiles": (1024, 4096),
    }
    if num_rows * num_columns > WHOLE_PRODUCT_CELLS:
        del blocks["whole"]

    def prepare(height: int, width: int) -> Callable[[], None]:
        height, width = min(height, num_rows), min(width, num_columns)
        buffer = torch.zeros(height * width, dtype=rows.dtype, device=rows.device)
        buffer.fill_(0)  # the pages exist from here on

        def compute() -> None:
            for left in range(0, num_columns, width):
                tile = columns[left : left + width]
                for top in range(0, num_rows, height):
                    part = rows[top : top + height]
                    out = buffer[: len(part) * len(tile)].view(len(part), len(tile))
                    torch.mm(part, tile.T, out=out)

        return compute

    return {name: partial(prepare, *block) for name, block in blocks.items()}


@contextmanager
def product_precision(precision: str) -> Iterator[None]:
    """Have float32 products on a CUDA device computed in ``fp32`` or ``tf32`` inside the block."""
    matmul = torch.backends.cuda.matmul
    found = matmul.fp32_precision
    matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = found
