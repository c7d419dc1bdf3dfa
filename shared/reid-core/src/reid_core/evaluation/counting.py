"""The engine below ``rank_gallery``: for every match, how many rivals score at least as high.

A rival is a gallery image of another identity. The gallery is read tile by tile; a tile's scores
against a chunk of queries are a float32 product, and one count per threshold and per row settles
all cells but the few whose distance from a threshold is within the product's error. Those are
decided by exact scores, or, where they are many (features that hardly differ), the block is
repeated in float64 first.

Legend: Q' queries that have a match, in the order of processing; P their matches in all, M their
pairs of one identity in all; R queries of a chunk, W images of a tile, K matches of the chunk's
richest query.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluation.rules import Indices, PairTable
from reid_core.evaluation.scores import (
    FLOAT32_RANGE,
    Scores,
    counts_at_least,
    distinct_pair_scores,
    gather_rows,
    in_float64,
    norm_bounds,
    pair_scores,
    product_tolerance,
)

__all__ = ["RivalCounter"]

# Deciding a cell by its exact score costs about as much as repeating this many cells in float64.
_CELLS_PER_EXACT_SCORE = 64

# Images per float64 product: bounds the float64 copy of a tile (32 MB at D = 4096).
_FLOAT64_TILE = 1024


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Some queries and their matches.

    Attributes:
        queries: (R,) int64 rows of the query features.
        norms: (R,) bound of each query's scores.
        slots: (R, K) int64 positions in the flat arrays of matches; -1 is padding.
        pair_rows: Row in the chunk of each pair of one identity.
        pair_columns: Gallery row of each pair of one identity.
    """

    queries: Indices
    norms: Scores
    slots: Indices
    pair_rows: Indices
    pair_columns: Indices


class RivalCounter:
    """Counts the rivals of every match.

    Args:
        queries: (Q, D) float32 features.
        gallery: (G, D) float32 features.
        pids: (Q,) int64 identities of the queries.
        order: (Q',) int64, the queries that have a match, in the order of processing.
        pairs: Pairs of one identity of those queries, in that order.
        device: Where products are computed.
    """

    def __init__(
        self,
        queries: Tensor,
        gallery: Tensor,
        pids: Indices,
        order: Indices,
        pairs: PairTable,
        device: torch.device,
    ) -> None:
        self._queries = queries
        self._gallery = gallery
        self._order = order
        self._pairs = pairs
        self._device = device
        self._norms = norm_bounds(queries)[order] * norm_bounds(gallery).max()
        # Flat arrays over the matches, (P,).
        self._match_rows = pairs.queries[pairs.positive]
        self._match_columns = pairs.gallery[pairs.positive]
        self._thresholds = self._same_identity_scores(pids[order])[pairs.positive]
        self._is_exact = np.zeros(len(self._thresholds), dtype=bool)
        self._rivals = np.zeros(len(self._thresholds), dtype=np.int64)

    def count(self, chunk_size: int, tile_size: int) -> None:
        """Add the rivals of the whole gallery.

        Args:
            chunk_size: R.
            tile_size: W.
        """
        chunks = list(self._chunks(chunk_size))
        edges = [self._edges(chunk, torch.float32).to(self._device) for chunk in chunks]
        queries = self._queries.to(self._device)
        cells = min(chunk_size, len(self._order)) * min(tile_size, len(self._gallery))
        buffer, scratch = torch.empty(2, cells, device=self._device)
        for start in range(0, len(self._gallery), tile_size):
            tile = self._gallery[start : start + tile_size].to(self._device)
            for chunk, chunk_edges in zip(chunks, edges, strict=True):
                rows = gather_rows(queries, chunk.queries)
                if chunk.norms.max() > FLOAT32_RANGE:
                    self._count_in_float64(chunk, rows, tile, start)
                    continue
                cells = len(rows) * len(tile)
                scores = buffer[:cells].view(len(rows), len(tile))
                torch.mm(rows, tile.T, out=scores)
                if not self._count(chunk, chunk_edges, scores, scratch[:cells], start):
                    self._count_in_float64(chunk, rows, tile, start)

    def ranks(self) -> Iterator[Indices]:
        """Yield, for every query in the order of processing, its matches' ranks, ascending."""
        ascending = self._rivals[np.lexsort((self._rivals, self._match_rows))]
        counts = np.bincount(self._match_rows, minlength=len(self._order))
        for rivals in np.split(ascending, np.cumsum(counts)[:-1]):
            yield rivals + np.arange(1, len(rivals) + 1)

    def _same_identity_scores(self, pids: Indices) -> Scores:
        """Score all pairs of one identity in float64, (M,), with one product per identity."""
        pairs = self._pairs
        scores = np.empty(len(pairs.gallery))
        by_identity = np.argsort(pids, kind="stable")
        borders = np.flatnonzero(np.diff(pids[by_identity])) + 1
        for members in np.split(by_identity, borders):
            columns = pairs.gallery[pairs.offsets[members[0]] : pairs.offsets[members[0] + 1]]
            for first in range(0, len(members), _FLOAT64_TILE):
                part = members[first : first + _FLOAT64_TILE]
                rows = in_float64(gather_rows(self._queries, self._order[part]))
                for start in range(0, len(columns), _FLOAT64_TILE):
                    piece = columns[start : start + _FLOAT64_TILE]
                    block = rows @ in_float64(gather_rows(self._gallery, piece)).T
                    cells = pairs.offsets[part][:, None] + np.arange(start, start + len(piece))
                    scores[cells] = block.cpu().numpy()
        return scores

    def _chunks(self, size: int) -> Iterator[_Chunk]:
        first_match = np.searchsorted(self._match_rows, np.arange(len(self._order) + 1))
        offsets = self._pairs.offsets
        for start in range(0, len(self._order), size):
            stop = min(start + size, len(self._order))
            begin, end = first_match[start:stop], first_match[start + 1 : stop + 1]
            slots = begin[:, None] + np.arange((end - begin).max())
            slots[slots >= end[:, None]] = -1
            yield _Chunk(
                queries=self._order[start:stop],
                norms=self._norms[start:stop],
                slots=slots,
                pair_rows=np.repeat(np.arange(stop - start), np.diff(offsets[start : stop + 1])),
                pair_columns=self._pairs.gallery[offsets[start] : offsets[stop]],
            )

    def _padded_thresholds(self, chunk: _Chunk) -> Scores:
        return np.where(chunk.slots >= 0, self._thresholds[chunk.slots], np.inf)

    def _edges(self, chunk: _Chunk, dtype: torch.dtype) -> Tensor:
        """Return (R, 2K) edges: scores reaching the first K surely count, the last K possibly."""
        thresholds = self._padded_thresholds(chunk)
        dim = self._queries.shape[1]
        tolerance = product_tolerance(dtype, dim, chunk.norms)[:, None]
        # A threshold that is not exact yet comes from a float64 product.
        tolerance = tolerance + product_tolerance(torch.float64, dim, chunk.norms)[:, None]
        kind = np.float32 if dtype == torch.float32 else np.float64
        with np.errstate(over="ignore"):
            high = np.nextafter((thresholds + tolerance).astype(kind), kind(np.inf))
            low = np.nextafter((thresholds - tolerance).astype(kind), kind(-np.inf))
        return torch.from_numpy(np.concatenate([high, low], axis=1))

    def _count(
        self, chunk: _Chunk, edges: Tensor, scores: Tensor, scratch: Tensor, start: int
    ) -> bool:
        """Add the rivals of one tile; False, and nothing added, where too much is ambiguous."""
        self._hide_same_identity(chunk, scores, start)
        reached = counts_at_least(scores, edges, scratch.view_as(scores))
        sure, possible = reached.chunk(2, dim=1)
        ambiguous = possible - sure
        num_ambiguous = int(ambiguous.sum())
        if num_ambiguous > scores.numel() // _CELLS_PER_EXACT_SCORE:
            return False
        self._add(chunk, sure)
        if num_ambiguous:
            self._decide(chunk, edges, scores, ambiguous, start)
        return True

    def _decide(
        self, chunk: _Chunk, edges: Tensor, scores: Tensor, ambiguous: Tensor, start: int
    ) -> None:
        """Add the rivals among the cells that lie between the two edges of a match."""
        flags = torch.nonzero(ambiguous).cpu().numpy()
        rows, positions = np.unique(flags[:, 0], return_inverse=True)
        lines = gather_rows(scores, rows).cpu().numpy()
        high, low = (edge.cpu().numpy() for edge in edges.chunk(2, dim=1))
        found = []
        for (row, match), position in zip(flags, positions, strict=True):
            line = lines[position]
            columns = np.flatnonzero((line >= low[row, match]) & (line < high[row, match]))
            found.append(columns + start)
        slots = np.repeat(chunk.slots[flags[:, 0], flags[:, 1]], [len(cells) for cells in found])
        rows = self._match_rows[slots]
        columns = np.concatenate(found)
        exact = pair_scores(self._queries, self._gallery, self._order[rows], columns)
        dim = self._queries.shape[1]
        tolerance = product_tolerance(torch.float64, dim, self._norms[rows])
        self._make_exact(np.unique(slots[np.abs(exact - self._thresholds[slots]) <= tolerance]))
        np.add.at(self._rivals, slots[exact >= self._thresholds[slots]], 1)

    def _count_in_float64(self, chunk: _Chunk, rows: Tensor, tile: Tensor, start: int) -> None:
        """Add the rivals of one tile where float32 cannot tell enough of them apart."""
        self._make_exact(chunk.slots[chunk.slots >= 0])
        rows = in_float64(rows)
        high, low = self._edges(chunk, torch.float64).to(rows.device).chunk(2, dim=1)
        high, low = high.sort(dim=1).values, low.sort(dim=1).values
        thresholds = torch.from_numpy(self._padded_thresholds(chunk)).to(rows.device)
        for first in range(0, len(tile), _FLOAT64_TILE):
            scores = rows @ in_float64(tile[first : first + _FLOAT64_TILE]).T
            self._hide_same_identity(chunk, scores, start + first)
            # All windows of a row are equally wide: if any holds a score, then the first that ends
            # above it does.
            window = torch.searchsorted(high, scores, right=True).clamp_(max=high.shape[1] - 1)
            cells = torch.nonzero((low.gather(1, window) <= scores) & (scores < high[:, -1:]))
            cell_rows, columns = cells.cpu().numpy().T
            exact = distinct_pair_scores(
                self._queries, self._gallery, chunk.queries[cell_rows], columns + start + first
            )
            scores[cells[:, 0], cells[:, 1]] = torch.from_numpy(exact).to(scores.device)
            self._add(chunk, counts_at_least(scores, thresholds, torch.empty_like(scores)))

    def _hide_same_identity(self, chunk: _Chunk, scores: Tensor, start: int) -> None:
        """Set the cells of the queries' own identities to -inf; they are matches or junk."""
        columns = chunk.pair_columns - start
        inside = np.flatnonzero((columns >= 0) & (columns < scores.shape[1]))
        rows = torch.from_numpy(chunk.pair_rows[inside]).to(scores.device)
        scores[rows, torch.from_numpy(columns[inside]).to(scores.device)] = -torch.inf

    def _add(self, chunk: _Chunk, counts: Tensor) -> None:
        used = chunk.slots >= 0
        self._rivals[chunk.slots[used]] += counts.cpu().numpy()[used]

    def _make_exact(self, slots: Indices) -> None:
        """Replace thresholds by the exact scores of their matches; within the tolerance anyway."""
        slots = slots[~self._is_exact[slots]]
        queries = self._order[self._match_rows[slots]]
        self._thresholds[slots] = pair_scores(
            self._queries, self._gallery, queries, self._match_columns[slots]
        )
        self._is_exact[slots] = True
