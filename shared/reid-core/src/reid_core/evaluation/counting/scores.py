"""The score of a pair, defined once, and fast products whose error is known.

The score of a query and a gallery image is the inner product of their float32 feature vectors,
evaluated in float64: the D products are exact there, and they are added in one fixed order
(``pair_scores``). For cosine similarity the features are L2-normalised once, with
``l2_normalize``. The score therefore depends on the two vectors alone: not on a matrix product's
tiling, on threads, on the device, or on the other images.

Matrix products are only ever used to find the pairs for which the exact score has to be known:
their distance from it is bounded by ``product_tolerance``.

Legend: N images, D embedding size, n pairs, R rows, W columns, E edges.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_core.evaluation.counting.threads import for_each
from reid_core.evaluation.rules import Indices

__all__ = [
    "FLOAT32_RANGE",
    "Scores",
    "counts_at_least",
    "counts_by_bucket",
    "counts_by_sorting",
    "distinct_pair_scores",
    "gather_rows",
    "in_float64",
    "l2_normalize",
    "norm_bounds",
    "pair_scores",
    "product_tolerance",
]

Scores = npt.NDArray[np.float64]

FLOAT32_RANGE = 1e37
"""A product of norms beyond this may overflow in float32; float64 is used then."""

# Half a megabyte of float64 per thread: a block stays in the L2 cache.
_BLOCK_ELEMENTS = 2**16

# 64 MB of float64 on a GPU, which needs many rows at a time.
_DEVICE_ELEMENTS = 2**23

# A float32 sum of squares loses entries below 2**-63 (their squares underflow).
_UNDERFLOW = 2.0**-63


def l2_normalize(features: Tensor, eps: float = 1e-12) -> Tensor:
    """Scale every row to unit length: x / max(||x||, eps), rounded once.

    Norm and division are in float64 and the norm's squares are added in a fixed order, so the
    float32 result is the same on every device.

    Args:
        features: (N, D) floating point, taken as float32.
        eps: Smallest divisor; a zero row stays zero.

    Returns:
        (N, D) float32 on the same device.
    """
    result = torch.empty(features.shape, dtype=torch.float32, device=features.device)
    step = max(1, 32 * _BLOCK_ELEMENTS // max(1, features.shape[1]))
    for start in range(0, len(features), step):
        rows = features[start : start + step].detach().float().cpu().double().numpy()
        norms = np.sqrt(_sum_in_fixed_order(rows * rows))
        rows /= np.maximum(norms, eps)[:, None]
        result[start : start + step] = torch.from_numpy(rows).float()
    return result


def pair_scores(
    queries: Tensor, gallery: Tensor, query_rows: Indices, gallery_rows: Indices
) -> Scores:
    """Return the exact scores of pairs; this function is the definition of the score.

    Args:
        queries: (Q, D) float32.
        gallery: (G, D) float32.
        query_rows: (n,) int64, the query of each pair.
        gallery_rows: (n,) int64, its gallery image.

    Returns:
        (n,) float64; equal vectors give equal bits, whatever else is computed beside them.
    """
    scores = np.empty(len(query_rows))
    on_device = queries.device == gallery.device and queries.device.type == "cuda"
    if on_device:
        from reid_core.evaluation.counting.fused import pair_kernel_works

        if pair_kernel_works(queries.device, queries.shape[1]):
            from reid_core.evaluation.counting.pair_kernel import pair_products

            places = (torch.from_numpy(x).to(queries.device) for x in (query_rows, gallery_rows))
            products = pair_products(queries.contiguous(), gallery.contiguous(), *places)
            return products.cpu().numpy()
    elements = _DEVICE_ELEMENTS if on_device else _BLOCK_ELEMENTS
    step = max(1, elements // max(1, queries.shape[1]))

    def fill(start: int) -> None:
        part = slice(start, start + step)
        if on_device:
            products = gather_rows(queries, query_rows[part]).double()
            products *= gather_rows(gallery, gallery_rows[part]).double()
            scores[part] = _sum_on_device(products).cpu().numpy()
        else:
            values = _rows_as_float64(queries, query_rows[part])
            values *= _rows_as_float64(gallery, gallery_rows[part])
            scores[part] = _sum_in_fixed_order(values)

    starts = range(0, len(query_rows), step)
    if on_device:
        for start in starts:
            fill(start)
    else:
        for_each(starts, lambda: fill)
    return scores


def distinct_pair_scores(
    queries: Tensor, gallery: Tensor, query_rows: Indices, gallery_rows: Indices
) -> Scores:
    """Return ``pair_scores``, evaluated once per pair of distinct vectors.

    Worth its bookkeeping where many pairs tie, which is where rows repeat: a network that has
    collapsed gives every image the same vector.
    """
    query_labels = _distinct_vectors(queries, query_rows)
    gallery_labels = _distinct_vectors(gallery, gallery_rows)
    keys = query_labels * (int(gallery_labels.max(initial=0)) + 1) + gallery_labels
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return pair_scores(queries, gallery, query_rows[first], gallery_rows[first])[inverse]


def in_float64(values: Tensor) -> Tensor:
    """Convert to float64, on the same device where that has float64, else on the CPU."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def gather_rows(features: Tensor, rows: Indices) -> Tensor:
    """Return a copy of some rows, on the features' device."""
    return features.index_select(0, torch.from_numpy(rows).to(features.device))


def norm_bounds(features: Tensor) -> Scores:
    """Return upper bounds of the rows' L2 norms, (N,) float64."""
    norms = in_float64(torch.linalg.vector_norm(features, dim=1)).cpu()
    overflown = torch.nonzero(~torch.isfinite(norms)).flatten()
    for row in overflown.tolist():
        norms[row] = torch.linalg.vector_norm(in_float64(features[row]))
    bounds: Scores = norms.numpy() * 1.001 + _UNDERFLOW * features.shape[1] ** 0.5
    return bounds


def product_tolerance(dtype: torch.dtype, dim: int, norms: Scores) -> Scores:
    """Bound the distance of a matrix product's entry from the exact score.

    float64: rigorous, 2 D u ||q|| ||g|| (product and exact score are each within D u). float32:
    max(8 sqrt(D), D / 2) u ||q|| ||g||. The first is where rounding errors are independent: the
    largest seen on ordinary features is below a hundredth of it. The second is for vectors whose
    entries hardly differ, where they add up: D u / 8 was seen on a CPU, and adding one entry after
    the other, the worst of all orders, gives D u / 3. An absolute term covers products that
    underflow.

    Args:
        dtype: float32 or float64, the type in which the product is computed.
        dim: D.
        norms: ||q|| ||g|| of the entries.

    Returns:
        float64 of the shape of ``norms``.
    """
    unit = 2.0**-53 if dtype == torch.float64 else 2.0**-24
    factor = 2.0 * dim if dtype == torch.float64 else max(8.0 * dim**0.5, dim / 2)
    return factor * unit * norms + dim * torch.finfo(dtype).tiny


def counts_at_least(scores: Tensor, edges: Tensor, scratch: Tensor) -> Tensor:
    """Count, for every edge, the scores of its row that are not below it.

    Args:
        scores: (R, W) without NaN; -inf marks what is not to be counted.
        edges: (R, E) of the same type and device, in any order, above -inf.
        scratch: Memory of the scores' shape, type and device that may be used, so that a tile need
            not ask the system for more.

    Returns:
        (R, E) int64, on the CPU or the scores' device.
    """
    if scores.device.type == "cuda":
        return counts_by_bucket(scores, edges)
    return counts_by_sorting(scores.cpu(), edges.cpu(), scratch.cpu())


def counts_by_sorting(scores: Tensor, edges: Tensor, scratch: Tensor) -> Tensor:
    """Do as ``counts_at_least`` on the CPU: sort the values of a row, then search the edges.

    NumPy sorts float32 with the processor's vector instructions, which is several times faster
    than torch.sort, and than searching the edges for every score.
    """
    ordered = torch.from_numpy(_sort_rows(scores.numpy(), scratch.numpy()))
    return scores.shape[1] - torch.searchsorted(ordered, edges)


def counts_by_bucket(scores: Tensor, edges: Tensor) -> Tensor:
    """Do as ``counts_at_least`` on any device: a histogram over the sorted edges of a row."""
    num_rows, num_edges = edges.shape
    ordered, order = edges.sort(dim=1)
    # Bucket b: the score reaches b of its row's edges. Most scores reach none; they are left out.
    buckets = torch.searchsorted(ordered, scores, right=True, out_int32=True)
    rows, columns = torch.nonzero(buckets, as_tuple=True)
    cells = rows * (num_edges + 1) + buckets[rows, columns]
    histogram = torch.bincount(cells, minlength=num_rows * (num_edges + 1))
    reached = histogram.view(num_rows, -1).flip(1).cumsum(1).flip(1)[:, 1:]
    return torch.empty_like(reached).scatter_(1, order, reached)


def _sort_rows(
    scores: npt.NDArray[np.floating], ordered: npt.NDArray[np.floating]
) -> npt.NDArray[np.floating]:
    """Sort every row into ``ordered``."""
    ordered[...] = scores
    ordered.sort(axis=1)
    return ordered


def _sum_in_fixed_order(values: Scores) -> Scores:
    """Sum the rows of (n, D), destroying them: the upper half is added to the lower, repeatedly.

    Element-wise additions leave nothing to the hardware or to a library's version, which a
    library's sum does.
    """
    width = values.shape[1]
    while width > 64:
        half = width // 2
        values[:, :half] += values[:, width - half : width]
        width -= half
    # The rest in transposed order, so that the inner loops stay long.
    columns = np.ascontiguousarray(values[:, :width].T)
    while width > 1:
        half = width // 2
        columns[:half] += columns[width - half : width]
        width -= half
    total: Scores = columns[0]
    return total


def _sum_on_device(values: Tensor) -> Tensor:
    """Do as ``_sum_in_fixed_order`` on a device: the same additions, so the same bits."""
    width = values.shape[1]
    while width > 1:
        half = width // 2
        values[:, :half] += values[:, width - half : width]
        width -= half
    return values[:, 0]


def _rows_as_float64(features: Tensor, rows: Indices) -> Scores:
    if features.device.type == "cpu":
        gathered = features.numpy()[rows]
    else:
        gathered = (
            features.index_select(0, torch.from_numpy(rows).to(features.device)).cpu().numpy()
        )
    return gathered.astype(np.float64)


def _distinct_vectors(features: Tensor, rows: Indices) -> Indices:
    """Label rows so that equal labels mean equal vectors."""
    distinct, inverse = np.unique(rows, return_inverse=True)
    labels: dict[bytes, int] = {}
    found = np.empty(len(distinct), dtype=np.int64)
    for position, row in enumerate(distinct):
        vector = features[row].cpu().numpy().tobytes()
        found[position] = labels.setdefault(
            hashlib.blake2b(vector, digest_size=16).digest(), len(labels)
        )
    return found[inverse]
