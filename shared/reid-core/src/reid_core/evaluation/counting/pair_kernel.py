"""Exact scores of pairs by a Triton kernel; importing this module needs Triton.

The same additions in the same order as ``scores.pair_scores``, so the same float64 numbers, in one
pass over the two vectors of a pair.
"""
# Device code is typed by Triton, anew for every kind of arguments.
# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from reid_core.evaluation.rules import Indices

__all__ = ["addition_order", "pair_products"]

# Numbers that a thread holds: two float64 registers each.
_NUMBERS_PER_THREAD = 16


def pair_products(
    queries: Tensor, gallery: Tensor, query_rows: Tensor, gallery_rows: Tensor
) -> Tensor:
    """Return ``pair_scores`` of pairs, without waiting for the device.

    Args:
        queries: (Q, D) float32, contiguous.
        gallery: (G, D) float32, contiguous, on the same device, as all that follows.
        query_rows: (n,) int64, the query of each pair.
        gallery_rows: (n,) int64, its gallery image.

    Returns:
        (n,) float64 on the device.
    """
    dim, num_pairs = queries.shape[1], len(query_rows)
    device = queries.device
    scores = torch.empty(num_pairs, dtype=torch.float64, device=device)
    if not num_pairs:
        return scores
    order = torch.from_numpy(addition_order(dim)).to(device)
    num_warps = min(16, max(1, len(order) // (32 * _NUMBERS_PER_THREAD)))
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        _pair_kernel[(num_pairs,)](
            queries,
            gallery,
            query_rows,
            gallery_rows,
            order,
            scores,
            dim,
            WIDTH=len(order),
            LEVELS=len(order).bit_length() - 1,
            num_warps=num_warps,
            enable_fp_fusion=True,
        )
    return scores


def addition_order(dim: int) -> Indices:
    """Arrange the numbers of a row so that adding halves, again and again, is the fixed order.

    The fixed order adds the upper half to the lower; the middle one of an odd number waits. Where
    it waits, a zero is added here.

    Args:
        dim: D, how many numbers there are.

    Returns:
        (2**m,) int64 places in the row, -1 for a zero; m is the number of halvings.
    """
    widths = [dim]
    while widths[-1] > 1:
        widths.append(-(-widths[-1] // 2))
    order = np.zeros(1, dtype=np.int64)
    for width in reversed(widths[:-1]):
        upper = order + -(-width // 2)
        order = np.concatenate([order, np.where((order >= 0) & (upper < width), upper, -1)])
    return order


@triton.jit(do_not_specialize_on_alignment=["query_rows", "gallery_rows"])
def _pair_kernel(
    queries,
    gallery,
    query_rows,
    gallery_rows,
    order,
    scores,
    dim,
    WIDTH: tl.constexpr,
    LEVELS: tl.constexpr,
):
    """Score one pair. Products of float32 are exact in float64, so fusing changes nothing."""
    pair = tl.program_id(0)
    places = tl.load(order + tl.arange(0, WIDTH))
    is_number = places >= 0
    query = queries + tl.load(query_rows + pair) * dim
    image = gallery + tl.load(gallery_rows + pair) * dim
    left = tl.load(query + places, mask=is_number, other=0.0).to(tl.float64)
    right = tl.load(image + places, mask=is_number, other=0.0).to(tl.float64)
    values = left * right
    for level in tl.static_range(LEVELS):
        values = tl.sum(tl.reshape(values, (2, WIDTH >> (level + 1))), axis=0)
    tl.store(scores + pair + tl.arange(0, 1), tl.reshape(values, (1,)))
