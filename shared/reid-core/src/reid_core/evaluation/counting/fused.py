"""Counting on a device: how many scores of a row reach each threshold, and which cannot be told.

A cell is decided by the fast score of its pair where that lies outside the windows
``low <= score < high`` of the row's thresholds. The cells inside of one, whose exact score the
engine has to ask for, come back as a list.

There are two ways, with the same result:

* Triton kernels, on CUDA devices. With inputs of reduced precision one kernel multiplies and
  counts, and the matrix of scores is never stored (``fused_kernel``). A float32 product takes many
  times longer than a pass over its result: it is left to the library, and another kernel counts
  block by block, while the block is in the cache. Nothing is waited for until the results are read,
  so a chunk of queries is counted against the whole gallery in one go.
* PyTorch operations, everywhere else, and where Triton is missing, does not compile for the device,
  or gets a small known case wrong. That is said once, as a warning.

Legend: R queries of a chunk, W images of a tile, D embedding size, K thresholds per query.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluation.counting.precision import fast_products
from reid_core.evaluation.counting.scores import pair_scores
from reid_core.evaluation.counting.torch_counter import TorchCounter

if TYPE_CHECKING:
    from reid_core.evaluation.counting.kernel_counter import KernelCounter

__all__ = [
    "ChunkCounter",
    "TileCounts",
    "count_tile",
    "count_tile_torch",
    "kernels_work",
    "pair_kernel_works",
]

logger = logging.getLogger(__name__)

ProductPrecision = Literal["fp32", "tf32", "bf16"]

# 32 MB of scores stay in the cache of a large GPU; smaller blocks would leave it idle in between.
_BLOCK_CELLS = 2**23


class TileCounts(NamedTuple):
    """What is known of the cells of a chunk of queries.

    Attributes:
        sure: (R, K) int64, cells of the row whose score is at least ``high``.
        rows: (n,) int64, row of each ambiguous cell: its score is within at least one of the row's
            windows, ``low <= score < high``. A cell comes once, in no particular order.
        columns: (n,) int64, its gallery image.
        scores: (n,) float32, its fast score.
    """

    sure: Tensor
    rows: Tensor
    columns: Tensor
    scores: Tensor


class ChunkCounter:
    """Counts the cells of a chunk of queries against tile after tile of the gallery.

    Cells of the query's own identity are matches or junk, and never counted. Scores are finite.

    Args:
        query_ids: (R,) int64 identities, on the device.
        high: (R, K) float32, ascending along K; +inf is padding.
        low: (R, K) float32, ascending along K, nowhere above ``high`` and above -inf.
        capacity: Most ambiguous cells that are kept, below 2**30.
        kernels: Whether Triton kernels count.
    """

    def __init__(
        self, query_ids: Tensor, high: Tensor, low: Tensor, *, capacity: int, kernels: bool
    ) -> None:
        self._counter: KernelCounter | TorchCounter
        self._kernel: KernelCounter | None = None
        if kernels:
            from reid_core.evaluation.counting.kernel_counter import KernelCounter

            self._counter = self._kernel = KernelCounter(query_ids, high, low, capacity)
        else:
            self._counter = TorchCounter(query_ids, high, low, capacity)

    def add_products(
        self,
        queries: Tensor,
        gallery: Tensor,
        gallery_ids: Tensor,
        *,
        precision: ProductPrecision,
        offsets: Tensor | None = None,
        first_column: int = 0,
    ) -> None:
        """Count a tile whose scores are inner products.

        Args:
            queries: (R, D) float32; bfloat16 is taken too where that is the precision.
            gallery: (W, D) likewise. A large tile is better than many small ones: where scores are
                stored at all, then in blocks of 32 MB.
            gallery_ids: (W,) int64 identities.
            precision: What the inputs are rounded to; sums are in float32.
            offsets: (W,) float32, subtracted from all products of an image, or None.
            first_column: The tile's first image, for ``TileCounts.columns``.
        """
        if precision == "bf16":
            queries, gallery = queries.bfloat16(), gallery.bfloat16()
        queries, gallery = queries.contiguous(), gallery.contiguous()
        gallery_ids = gallery_ids.contiguous()
        if self._kernel is not None and precision != "fp32":
            if offsets is None:
                offsets = torch.zeros(len(gallery), dtype=torch.float32, device=gallery.device)
            self._kernel.add_products(
                queries, gallery, gallery_ids, offsets.contiguous(), first_column, precision
            )
            return
        step = max(1, _BLOCK_CELLS // len(queries))
        with fast_products(queries.device, precision):
            for start in range(0, len(gallery), step):
                part = slice(start, start + step)
                scores = _product(queries, gallery[part])
                if offsets is not None:
                    scores -= offsets[part]
                self._counter.add_scores(scores, gallery_ids[part], first_column + start)

    def add_scores(self, scores: Tensor, gallery_ids: Tensor, *, first_column: int = 0) -> None:
        """Count a tile of scores from anywhere.

        Args:
            scores: (R, W) float32, contiguous; may be overwritten.
            gallery_ids: (W,) int64 identities.
            first_column: The tile's first image, for ``TileCounts.columns``.
        """
        self._counter.add_scores(scores, gallery_ids.contiguous(), first_column)

    def result(self) -> TileCounts | None:
        """Wait for the device; None where there are more ambiguous cells than fit."""
        cells = self._counter.ambiguous()
        return None if cells is None else TileCounts(self._counter.counts(), *cells)


def count_tile(
    queries: Tensor,
    gallery: Tensor,
    query_ids: Tensor,
    gallery_ids: Tensor,
    high: Tensor,
    low: Tensor,
    *,
    capacity: int,
    precision: ProductPrecision,
    offsets: Tensor | None = None,
) -> TileCounts | None:
    """Count the cells of one tile; see ``ChunkCounter`` for the arguments.

    Returns:
        The counts, or None where more than ``capacity`` cells are ambiguous.
    """
    kernels = kernels_work(queries.device, precision, queries.shape[1])
    counter = ChunkCounter(query_ids, high, low, capacity=capacity, kernels=kernels)
    counter.add_products(queries, gallery, gallery_ids, precision=precision, offsets=offsets)
    return counter.result()


def count_tile_torch(
    queries: Tensor,
    gallery: Tensor,
    query_ids: Tensor,
    gallery_ids: Tensor,
    high: Tensor,
    low: Tensor,
    *,
    capacity: int,
    precision: ProductPrecision,
    offsets: Tensor | None = None,
) -> TileCounts | None:
    """Do as ``count_tile`` with PyTorch operations only."""
    counter = ChunkCounter(query_ids, high, low, capacity=capacity, kernels=False)
    counter.add_products(queries, gallery, gallery_ids, precision=precision, offsets=offsets)
    return counter.result()


def kernels_work(device: torch.device, precision: ProductPrecision, dim: int) -> bool:
    """Tell whether the Triton kernels compile for a device and count a small known case rightly.

    Tried once. Where they do not on a CUDA device, one warning says why.

    Args:
        device: Where scores are counted; the kernels are for CUDA devices.
        precision: Of the products.
        dim: D; the kernels differ with it.
    """
    return device.type == "cuda" and _proved(_counts_agree, device, precision, dim)


def pair_kernel_works(device: torch.device, dim: int) -> bool:
    """Tell the same of the kernel of exact scores, ``pair_kernel.pair_products``.

    Args:
        device: Where pairs are scored.
        dim: D; the kernel differs with it.
    """
    return device.type == "cuda" and _proved(_pairs_agree, device, dim)


@cache
def _proved(agree: Callable[..., bool], device: torch.device, *case: str | int) -> bool:
    try:
        for module in ("kernel_counter", "pair_kernel"):
            import_module(f"reid_core.evaluation.counting.{module}")
        if agree(device, *case):
            return True
        reason = "they get a small known case wrong"
    except Exception as error:  # Compilers and drivers raise errors of their own.
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    _warn_once(device, reason)
    return False


@cache
def _warn_once(device: torch.device, reason: str) -> None:
    logger.warning(
        "Triton kernels are not used on %s (%s); PyTorch operations give the same results in more "
        "time",
        device,
        reason,
    )


def _counts_agree(device: torch.device, precision: ProductPrecision, dim: int) -> bool:
    """Compare both ways on features of -1, 0 and 1, whose products are exact everywhere."""
    num_rows, num_columns = 150, 300
    depth, rows, columns = (
        torch.arange(count, device=device) for count in (dim, num_rows, num_columns)
    )
    queries = ((rows[:, None] * 5 + depth * (rows[:, None] % 7 + 1)) % 3 - 1).float()
    gallery = ((columns[:, None] * 2 + depth * (columns[:, None] % 11 + 1)) % 3 - 1).float()
    middle = torch.arange(-2, 3, device=device).float().expand(num_rows, -1) * 0.3 * dim**0.5
    found = []
    for kernels in (True, False):
        counter = ChunkCounter(
            rows % 17, middle + 1, middle - 1, capacity=num_rows * num_columns, kernels=kernels
        )
        counter.add_products(queries, gallery, columns % 17, precision=precision)
        result = counter.result()
        assert result is not None
        order = (result.rows * num_columns + result.columns).argsort()
        found.append([result.sure, *(values[order] for values in result[1:])])
    return all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def _pairs_agree(device: torch.device, dim: int) -> bool:
    """Compare exact scores with those of the CPU, of features whose sums depend on their order."""
    from reid_core.evaluation.counting.pair_kernel import pair_products

    features = torch.arange(64 * dim, dtype=torch.float32).add(1).sin().view(64, dim)
    rows, columns = np.arange(64), np.arange(64)[::-1] // 2
    found = pair_products(
        *[features.to(device)] * 2, *(torch.tensor(of).to(device) for of in (rows, columns.copy()))
    )
    return np.array_equal(found.cpu().numpy(), pair_scores(features, features, rows, columns))


def _product(queries: Tensor, gallery: Tensor) -> Tensor:
    """Return (R, W) products in float32."""
    if queries.dtype == torch.float32:
        return queries @ gallery.T
    if queries.device.type == "cuda":
        # The sums stay in float32; a bfloat16 result would lose sixteen more bits.
        return torch.mm(queries, gallery.T, out_dtype=torch.float32)
    return queries.float() @ gallery.float().T
