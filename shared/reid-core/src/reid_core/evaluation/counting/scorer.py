"""Scores of queries against gallery images: what the counting engine asks of them.

A scorer knows every score three times: exactly, pair by pair (the definition; it depends on the two
images alone); precisely, for small blocks; and fast, for whole tiles. The distance of the fast and
of the precise ones from the exact one is bounded, so the engine can tell which cells it has to look
at again.

Legend: Q queries, G gallery images, D embedding size, R rows, W columns, n pairs.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from reid_core.errors import ConfigError
from reid_core.evaluation.counting.fused import ChunkCounter, kernels_work
from reid_core.evaluation.counting.precision import Precision, check_precision, rounding_norms
from reid_core.evaluation.counting.scores import (
    FLOAT32_RANGE,
    Scores,
    distinct_pair_scores,
    gather_rows,
    in_float64,
    norm_bounds,
    pair_scores,
    product_tolerance,
)
from reid_core.evaluation.rules import Indices

__all__ = ["METRICS", "Euclidean", "InnerProduct", "Metric", "Scorer", "feature_scorer"]

Metric = Literal["inner_product", "euclidean"]
METRICS: tuple[Metric, ...] = ("inner_product", "euclidean")

# From so many pairs on, many may repeat: a network that has collapsed gives every image the same
# vector. The bookkeeping that finds repeated ones is then worth its time.
_MANY_PAIRS = 2**17


class Scorer(Protocol):
    """Scores of Q queries against G gallery images; higher is better.

    All methods may be called by several threads at once.
    """

    @property
    def num_queries(self) -> int:
        """Q."""

    @property
    def num_gallery(self) -> int:
        """G."""

    @property
    def device(self) -> torch.device:
        """Where fast scores are computed."""

    @property
    def tolerance(self) -> Scores:
        """(Q,) float64, bound of |fast - exact| for any gallery image; may be infinite."""

    @property
    def precise_tolerance(self) -> Scores:
        """(Q,) float64, bound of |precise - exact| for any gallery image."""

    def tile(self, rows: Indices, columns: slice, out: Tensor) -> None:
        """Write the fast scores of R queries and W consecutive gallery images.

        Args:
            rows: (R,) int64 queries.
            columns: Gallery images, start and stop given.
            out: (R, W) float32 on the device.
        """

    def precise(self, rows: Indices, columns: Indices) -> Scores:
        """Return (R, W) float64 precise scores of a block; the caller keeps it small."""

    def exact(self, rows: Indices, columns: Indices) -> Scores:
        """Return (n,) float64 exact scores of pairs: equal bits whatever is asked beside them."""


class InnerProduct:
    """Scores are inner products; cosines, where the features have unit length.

    Args:
        queries: (Q, D) float32.
        gallery: (G, D) float32; read in contiguous tiles.
        device: Where fast products are computed.
        precision: Of the fast products (``reid_core.evaluation.counting.precision``).
    """

    def __init__(
        self,
        queries: Tensor,
        gallery: Tensor,
        device: torch.device | None = None,
        precision: Precision = "auto",
    ) -> None:
        check_precision(precision)
        queries, gallery = queries.detach(), gallery.detach()
        self._queries, self._gallery = queries, gallery
        self._device = queries.device if device is None else device
        self._precision = precision
        self._on_device = queries.to(self._device)
        if self._device.type == "cuda" and gallery.device != self._device:
            # Every chunk of queries reads the whole gallery: where it fits, it moves once.
            free, _ = torch.cuda.mem_get_info(self._device)
            if gallery.numel() * gallery.element_size() <= free // 4:
                self._gallery = gallery.to(self._device)
                self._queries = self._on_device
        dim = queries.shape[1]
        norms, gallery_norms = norm_bounds(queries), norm_bounds(gallery)
        largest = gallery_norms.max(initial=0)
        self._norms = norms * largest
        tolerance = product_tolerance(torch.float32, dim, self._norms)
        if precision in ("tf32", "bf16"):
            # |q g - q' g'| <= |q - q'| |g| + |q'| |g - g'| for the rounded vectors q' and g'.
            lost, gallery_lost = (rounding_norms(x, precision) for x in (queries, gallery))
            tolerance += 1.001 * (lost * largest + (norms + lost) * gallery_lost.max(initial=0))
            # Tensor cores cut their sums off instead of rounding them.
            tolerance += 3 * dim * 2.0**-24 * self._norms
        self._tolerance = np.where(self._norms > FLOAT32_RANGE, np.inf, tolerance)
        self._precise_tolerance = product_tolerance(torch.float64, dim, self._norms)

    @property
    def num_queries(self) -> int:
        """Q."""
        return len(self._queries)

    @property
    def num_gallery(self) -> int:
        """G."""
        return len(self._gallery)

    @property
    def device(self) -> torch.device:
        """Where fast scores are computed."""
        return self._device

    @property
    def tolerance(self) -> Scores:
        """(Q,) float64, bound of |fast - exact|; infinite where float32 would overflow."""
        return self._tolerance

    @property
    def precise_tolerance(self) -> Scores:
        """(Q,) float64, bound of |precise - exact|."""
        return self._precise_tolerance

    def tile(self, rows: Indices, columns: slice, out: Tensor) -> None:
        """Write (R, W) fast products; see ``Scorer``."""
        tile = self._gallery[columns].to(self._device)
        chunk = gather_rows(self._on_device, rows)
        if self._precision == "bf16" and self._device.type == "cuda":
            # The sums stay in float32; a bfloat16 result would lose sixteen more bits.
            torch.mm(chunk.bfloat16(), tile.bfloat16().T, out_dtype=torch.float32, out=out)
        else:
            torch.mm(chunk, tile.T, out=out)

    @property
    def has_kernels(self) -> bool:
        """Whether products are counted by kernels of our own on this device."""
        return kernels_work(self._device, self._fast_precision, self._queries.shape[1])

    def add_products(
        self,
        counter: ChunkCounter,
        rows: Indices,
        columns: slice,
        gallery_ids: Tensor,
        offsets: Tensor | None = None,
    ) -> None:
        """Have a tile's scores counted without storing them, where the device can do that.

        Args:
            counter: Of the R rows.
            rows: (R,) int64 queries.
            columns: Gallery images, start and stop given.
            gallery_ids: (W,) int64 identities on the device.
            offsets: (W,) float32 to be subtracted, on the device.
        """
        counter.add_products(
            gather_rows(self._on_device, rows),
            self._gallery[columns].to(self._device),
            gallery_ids,
            precision=self._fast_precision,
            offsets=offsets,
            first_column=columns.start,
        )

    @property
    def _fast_precision(self) -> Literal["fp32", "tf32", "bf16"]:
        return "fp32" if self._precision == "auto" else self._precision

    def precise(self, rows: Indices, columns: Indices) -> Scores:
        """Return (R, W) products in float64; see ``Scorer``."""
        left = in_float64(gather_rows(self._queries, rows))
        block: Scores = (left @ in_float64(gather_rows(self._gallery, columns)).T).cpu().numpy()
        return block

    def exact(self, rows: Indices, columns: Indices) -> Scores:
        """Return (n,) exact scores: ``pair_scores``."""
        few = len(rows) < _MANY_PAIRS or self._gallery.device.type == "cuda"
        evaluate = pair_scores if few else distinct_pair_scores
        return evaluate(self._queries, self._gallery, rows, columns)


class Euclidean(InnerProduct):
    """Ranks by Euclidean distance, the nearest first.

    The score is q.g - |g|^2 / 2, in float64: half of |q|^2 - |q - g|^2, which for a query orders as
    the distance does. Both products are ``pair_scores``; the |q|^2 that all scores of a query share
    is left out, as it would only cost digits.
    """

    def __init__(
        self,
        queries: Tensor,
        gallery: Tensor,
        device: torch.device | None = None,
        precision: Precision = "auto",
    ) -> None:
        super().__init__(queries, gallery, device, precision)
        every = np.arange(len(gallery))
        self._halves = pair_scores(gallery, gallery, every, every) / 2
        self._fast_halves = torch.from_numpy(self._halves).float().to(self._device)
        largest = self._halves.max(initial=0)
        # Rounding of |g|^2 / 2, and of the subtraction.
        self._tolerance = self._tolerance + 2.0**-23 * (self._norms + 2 * largest)
        self._precise_tolerance = self._precise_tolerance + 2.0**-52 * (self._norms + 2 * largest)
        if largest > FLOAT32_RANGE:
            self._tolerance = np.full_like(self._tolerance, np.inf)

    def tile(self, rows: Indices, columns: slice, out: Tensor) -> None:
        """Write (R, W) fast scores; see ``Scorer``."""
        super().tile(rows, columns, out)
        out.sub_(self._fast_halves[columns])

    def add_products(
        self,
        counter: ChunkCounter,
        rows: Indices,
        columns: slice,
        gallery_ids: Tensor,
        offsets: Tensor | None = None,
    ) -> None:
        """Have a tile's scores counted; see ``InnerProduct``."""
        assert offsets is None
        super().add_products(counter, rows, columns, gallery_ids, self._fast_halves[columns])

    def precise(self, rows: Indices, columns: Indices) -> Scores:
        """Return (R, W) float64 scores; see ``Scorer``."""
        return super().precise(rows, columns) - self._halves[columns]

    def exact(self, rows: Indices, columns: Indices) -> Scores:
        """Return (n,) exact scores; see ``Scorer``."""
        return super().exact(rows, columns) - self._halves[columns]


def feature_scorer(
    queries: Tensor,
    gallery: Tensor,
    metric: Metric = "inner_product",
    device: torch.device | None = None,
    precision: Precision = "auto",
) -> InnerProduct:
    """Return the scorer of a metric.

    Args:
        queries: (Q, D) float32.
        gallery: (G, D) float32.
        metric: ``inner_product`` or ``euclidean``.
        device: Where fast products are computed; by default where the queries lie.
        precision: Of the fast products.

    Raises:
        ConfigError: Unknown metric or precision.
    """
    if metric not in METRICS:
        raise ConfigError(f"no metric is called {metric!r}; use {', '.join(METRICS)}")
    kind = Euclidean if metric == "euclidean" else InnerProduct
    return kind(queries, gallery, device, precision)
