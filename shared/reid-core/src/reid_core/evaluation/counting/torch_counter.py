"""Counting by PyTorch operations, on any device.

Legend: R queries, W gallery images, K thresholds per query.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["TorchCounter"]


class TorchCounter:
    """Does with PyTorch operations what ``kernel_counter.KernelCounter`` does.

    One pass of ``searchsorted`` puts every cell into the bucket of the edges that it reaches, and
    the few cells that reach one are added to a histogram. This costs the same for any number of
    thresholds, where comparing with each costs a pass per threshold; a histogram of all cells would
    have nearly all of them wait for the same bucket.
    """

    def __init__(self, query_ids: Tensor, high: Tensor, low: Tensor, capacity: int) -> None:
        self._query_ids = query_ids
        self._capacity = capacity
        self._high = high.contiguous()
        # A cell that reaches all high edges is within no window.
        self._low = torch.nn.functional.pad(low, (0, 1), value=torch.inf)
        self._histogram = torch.zeros(self._low.numel(), dtype=torch.int32, device=high.device)
        none = query_ids.new_empty(0)
        self._found = [(none, none, high.new_empty(0))]
        self._num_found = 0

    def add_scores(self, scores: Tensor, gallery_ids: Tensor, first_column: int) -> None:
        """Count the cells of a tile of scores, which is overwritten."""
        if self._num_found > self._capacity:
            return
        scores.masked_fill_(self._query_ids[:, None] == gallery_ids, -torch.inf)
        rows, columns = torch.nonzero(scores >= self._low[:, :1], as_tuple=True)
        buckets = torch.searchsorted(self._high, scores, right=True, out_int32=True)[rows, columns]
        cells = rows * self._low.shape[1] + buckets
        one = self._histogram.new_ones(())
        self._histogram.scatter_add_(0, cells, one.expand(len(cells)))
        values = scores[rows, columns]
        # Edges ascend: if any window holds the cell, then the first that ends above it does.
        near = values >= self._low.flatten()[cells]
        self._found.append((rows[near], columns[near] + first_column, values[near]))
        self._num_found += len(self._found[-1][0])

    def counts(self) -> Tensor:
        """Return how many cells surely count, (R, K) int64, on the device."""
        histogram = self._histogram.view_as(self._low)
        return histogram.flip(1).cumsum(1).flip(1)[:, 1:]

    def ambiguous(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return the ambiguous cells' rows, columns and scores, or None if there are too many."""
        if self._num_found > self._capacity:
            return None
        rows, columns, scores = (torch.cat(parts) for parts in zip(*self._found, strict=True))
        return rows, columns, scores
