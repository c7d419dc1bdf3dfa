"""The few highest (or lowest) scores of many rows, collected tile by tile.

Most scores of a tile are far from the best of their row. They are passed over in groups of eight:
a group is looked into only where its maximum enters the list of a row.

Legend: N rows in all, M places per row, R rows and W columns of a tile.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

__all__ = ["Candidates"]

_GROUP = 8


class Candidates:
    """The M highest or lowest scores met so far, of every row, and their columns.

    Args:
        num_rows: N.
        places: M.
        largest: Whether the highest scores are collected.
        device: Where scores are computed.

    Attributes:
        scores: (N, M) float32, the best first; infinite where fewer were met.
        columns: (N, M) int32; -1 where fewer were met.
    """

    def __init__(self, num_rows: int, places: int, *, largest: bool, device: torch.device) -> None:
        self._largest = largest
        self._worst = -torch.inf if largest else torch.inf
        self._lock = threading.Lock()
        shape = (num_rows, places)
        self.scores = torch.full(shape, self._worst, dtype=torch.float32, device=device)
        self.columns = torch.full(shape, -1, dtype=torch.int32, device=device)

    def begin(self, tile: Tensor, first_row: int, first_column: int) -> None:
        """Take in the first tile of some rows.

        Args:
            tile: (R, W) scores.
            first_row: Row of all of the tile's first row.
            first_column: Column of all of the tile's first column.
        """
        places = min(self.scores.shape[1], tile.shape[1])
        found = torch.topk(tile, places, dim=1, largest=self._largest)
        rows = slice(first_row, first_row + len(tile))
        self.scores[rows, :places] = found.values
        self.columns[rows, :places] = (found.indices + first_column).int()

    def add(self, tile: Tensor, first_row: int, first_column: int) -> None:
        """Take in another tile; see ``begin``. May be called by several threads at once."""
        width = tile.shape[1] // _GROUP * _GROUP
        for size, part in ((_GROUP, slice(width)), (1, slice(width, None))):
            piece = tile[:, part]
            # Column c belongs to group c modulo the number of groups.
            groups = piece.view(len(piece), size, piece.shape[1] // size)
            peaks = self._reduce(groups, 1) if piece.numel() else piece
            self._look_into(piece, peaks, first_row, first_column + (part.start or 0))

    def add_columns(self, tile: Tensor, first_row: int, first_column: int) -> None:
        """Take in a tile whose columns are the rows here.

        Args:
            tile: (W, R) scores.
            first_row: Row of all of the tile's first column.
            first_column: Column of all of the tile's first row.
        """
        height = tile.shape[0] // _GROUP * _GROUP
        for size, part in ((_GROUP, slice(height)), (1, slice(height, None))):
            piece = tile[part]
            groups = piece.view(size, len(piece) // size, piece.shape[1])
            peaks = self._reduce(groups, 0) if piece.numel() else piece
            self._look_into(piece.T, peaks.T, first_row, first_column + (part.start or 0))

    def _reduce(self, grouped: Tensor, dim: int) -> Tensor:
        return grouped.amax(dim) if self._largest else grouped.amin(dim)

    def _look_into(self, tile: Tensor, peaks: Tensor, first_row: int, first_column: int) -> None:
        """Take in (R, W) scores with the (R, P) best scores of their groups."""
        floors = self.scores[first_row : first_row + len(tile), -1]
        owners, groups = torch.nonzero(self._beats(peaks, floors[:, None]), as_tuple=True)
        if not len(owners):
            return
        columns = torch.arange(0, tile.shape[1], peaks.shape[1], device=tile.device)
        columns = groups[:, None] + columns
        scores = tile[owners[:, None], columns]
        hits, members = torch.nonzero(self._beats(scores, floors[owners, None]), as_tuple=True)
        found = (columns[hits, members] + first_column).int()
        with self._lock:
            self._merge(owners[hits] + first_row, scores[hits, members], found)

    def _beats(self, scores: Tensor, floors: Tensor) -> Tensor:
        return scores > floors if self._largest else scores < floors

    def _merge(self, owners: Tensor, scores: Tensor, columns: Tensor) -> None:
        """Merge what rows, in ascending order, have found into their lists."""
        rows, slots, counts = torch.unique_consecutive(
            owners, return_inverse=True, return_counts=True
        )
        if not len(rows):
            return
        firsts = counts.cumsum(0) - counts
        places = torch.arange(len(owners), device=owners.device) - firsts[slots]
        shape = (len(rows), int(counts.max()))
        new_scores = scores.new_full(shape, self._worst)
        new_columns = columns.new_full(shape, -1)
        new_scores[slots, places], new_columns[slots, places] = scores, columns
        all_scores = torch.cat([self.scores[rows], new_scores], dim=1)
        all_columns = torch.cat([self.columns[rows], new_columns], dim=1)
        kept = torch.topk(all_scores, self.scores.shape[1], dim=1, largest=self._largest)
        self.scores[rows] = kept.values
        self.columns[rows] = all_columns.gather(1, kept.indices)
