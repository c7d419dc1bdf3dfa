"""The engine below ``rank_gallery``: for every match, how many rivals score at least as high.

A rival is a gallery image of another identity. The gallery is read tile by tile; the fast scores of
a tile against a chunk of queries settle, by one count per threshold and row, all cells but the few
whose distance from a threshold is within their error. Those are decided by exact scores, or, where
they are many (features that hardly differ), the block is repeated in float64 first. Scores of the
pairs of one identity are known from the start, so every tile is checked against them.

Counts add up over tiles and over processes that hold different parts of the gallery.

Legend: Q' queries that have a match, in the order of processing; P their matches in all, M their
pairs of one identity in this process's part of the gallery; R queries of a chunk, W images of a
tile, K matches of the chunk's richest query.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_core.engine.distributed import reduce_array
from reid_core.evaluation.counting.fused import ChunkCounter, kernels_work
from reid_core.evaluation.counting.scorer import InnerProduct, Scorer
from reid_core.evaluation.counting.scores import Scores, counts_at_least, gather_rows
from reid_core.evaluation.counting.threads import for_each
from reid_core.evaluation.rules import Indices, PairTable

__all__ = ["RivalCounter"]

# Deciding a cell by its exact score costs about as much as repeating this many cells in float64.
_CELLS_PER_EXACT_SCORE = 64

# Ambiguous cells of a chunk that a device keeps (12 bytes each).
_MAX_CELLS = 2**26

# Cells of a chunk whose place is looked up together: ambiguous ones times thresholds (10 bytes
# each), and those of rows whose identities are noted (about 50 bytes each that reaches the match).
_SETTLED_CELLS = 2**22
_SEEN_CELLS = 2**18

# Size of the known case that kernels have to count right when they multiply nothing.
_PROBE_DIM = 32

# Images per tile of scores that a device stores.
_DEVICE_TILE = 2**14

# Images per float64 block: bounds the float64 copy of a tile (32 MB at D = 4096).
_PRECISE_TILE = 1024


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Some queries and their matches.

    Attributes:
        first: Place of the first query in the order of processing.
        queries: (R,) int64 rows of the scorer.
        slots: (R, K) int64 positions in the flat arrays of matches, the lowest score first; -1 is
            padding, which is last.
        edges: (R, 2K) float32 on the device: scores reaching the first K surely reach the
            thresholds, scores below the last K surely do not.
        best: (R,) int64 place in K of the highest threshold.
        pair_rows: Row in the chunk of each pair of one identity.
        pair_columns: Gallery row of each pair of one identity.
        pair_scores: Precise score of each pair of one identity.
        tolerance: (R,) float64, distance of fast scores from exact ones.
    """

    first: int
    queries: Indices
    slots: Indices
    edges: Tensor
    best: Indices
    pair_rows: Indices
    pair_columns: Indices
    pair_scores: Scores
    tolerance: Scores


class RivalCounter:
    """Counts the rivals of every match.

    Args:
        scorer: Scores of the queries against this process's part of the gallery.
        pids: (Q',) int64 identities of the queries.
        gallery_pids: (G',) int64 identities of the scorer's columns.
        order: (Q',) int64, the queries that have a match, in the order of processing.
        pairs: Pairs of one identity of those queries, in that order, with the whole gallery.
        first: Gallery row that is the scorer's first column.
        sharded: Whether other processes hold the other parts of the gallery; their counts are
            added then.
        identities: (G',) int64 identity numbers of the scorer's columns, from 0 and the same in all
            processes, where rival identities are to be counted; else None.
        num_identities: Of the whole gallery.
    """

    def __init__(
        self,
        scorer: Scorer,
        pids: Indices,
        gallery_pids: Indices,
        order: Indices,
        pairs: PairTable,
        *,
        first: int = 0,
        sharded: bool = False,
        identities: Indices | None = None,
        num_identities: int = 0,
    ) -> None:
        self._scorer = scorer
        self._pids, self._gallery_pids = pids, gallery_pids
        self._order = order
        self._sharded = sharded
        self._lock = threading.Lock()
        here = (pairs.gallery >= first) & (pairs.gallery < first + scorer.num_gallery)
        # Arrays over the pairs at hand, (M,), and over all matches, (P,).
        self._pair_offsets = np.concatenate([[0], np.cumsum(here)])[pairs.offsets]
        self._pair_columns = pairs.gallery[here] - first
        self._pair_scores = self._same_identity_scores()
        self._match_rows = pairs.queries[pairs.positive]
        self._match_columns = pairs.gallery[pairs.positive] - first
        self._thresholds = np.zeros(len(self._match_rows))
        at_hand = here[pairs.positive]
        self._thresholds[at_hand] = self._pair_scores[pairs.positive[here]]
        self._is_exact = ~at_hand
        self._rivals = np.zeros(len(self._thresholds), dtype=np.int64)
        self._identities = identities
        self._seen = np.zeros((len(order), num_identities), dtype=np.bool_)
        if sharded or identities is not None:
            self._make_exact(np.flatnonzero(at_hand))
        if sharded:
            # Every threshold is known to one process, and 0 in the others.
            self._thresholds = reduce_array(self._thresholds, "sum")

    def count(self, chunk_size: int, tile_size: int) -> None:
        """Add the rivals of the whole gallery.

        Args:
            chunk_size: R.
            tile_size: W.
        """
        chunks = list(self._chunks(chunk_size))
        if not _counts_in_threads(self._scorer.device):
            if self._identities is None:
                chunks = [chunk for chunk in chunks if not self._count_on_device(chunk, tile_size)]
            tile_size = min(tile_size, _DEVICE_TILE)
        starts = range(0, self._scorer.num_gallery, tile_size)
        tasks = [(chunk, start) for start in starts for chunk in chunks]
        cells = min(chunk_size, len(self._order)) * min(tile_size, self._scorer.num_gallery)

        def make_worker() -> Callable[[tuple[_Chunk, int]], None]:
            buffer, scratch = torch.empty(2, cells, dtype=torch.float32, device=self._scorer.device)

            def work(task: tuple[_Chunk, int]) -> None:
                chunk, start = task
                stop = min(start + tile_size, self._scorer.num_gallery)
                shape = (len(chunk.queries), stop - start)
                size = shape[0] * shape[1]
                scores, spare = buffer[:size].view(shape), scratch[:size].view(shape)
                if not self._count_fast(chunk, scores, spare, start):
                    self._count_precisely(chunk, start, stop)

            return work

        if _counts_in_threads(self._scorer.device):
            for_each(tasks, make_worker)
        elif tasks:
            work = make_worker()
            for task in tasks:
                work(task)
        if self._sharded:
            self._rivals = reduce_array(self._rivals, "sum")
            self._seen = reduce_array(self._seen.view(np.uint8), "max").view(np.bool_)

    def ranks(self) -> Iterator[Indices]:
        """Yield, for every query in the order of processing, its matches' ranks, ascending."""
        ascending = self._rivals[np.lexsort((self._rivals, self._match_rows))]
        counts = np.bincount(self._match_rows, minlength=len(self._order))
        for rivals in np.split(ascending, np.cumsum(counts)[:-1]):
            yield rivals + np.arange(1, len(rivals) + 1)

    def identity_ranks(self) -> Indices:
        """Return (Q',) int64, the rank of each query's identity among those of the gallery."""
        better: Indices = self._seen.sum(axis=1, dtype=np.int64)
        return better + 1

    def _same_identity_scores(self) -> Scores:
        """Score all pairs of one identity precisely, (M,), with one block per identity."""
        offsets, columns = self._pair_offsets, self._pair_columns
        if not _counts_in_threads(self._scorer.device):
            # A device would wait for thousands of small products.
            rows = np.repeat(self._order, np.diff(offsets))
            return self._scorer.exact(rows, columns)
        scores = np.empty(len(columns))
        by_identity = np.argsort(self._pids, kind="stable")
        borders = np.flatnonzero(np.diff(self._pids[by_identity])) + 1
        blocks = [
            (members[first : first + _PRECISE_TILE], start)
            for members in np.split(by_identity, borders)
            for first in range(0, len(members), _PRECISE_TILE)
            for start in range(0, int(np.diff(offsets)[members[0]]), _PRECISE_TILE)
        ]

        def fill(block: tuple[Indices, int]) -> None:
            members, start = block
            begin, end = offsets[members[0]], offsets[members[0] + 1]
            piece = columns[begin + start : min(begin + start + _PRECISE_TILE, end)]
            cells = offsets[members][:, None] + np.arange(start, start + len(piece))
            scores[cells] = self._scorer.precise(self._order[members], piece)

        for_each(blocks, lambda: fill)
        return scores

    def _chunks(self, size: int) -> Iterator[_Chunk]:
        first_match = np.searchsorted(self._match_rows, np.arange(len(self._order) + 1))
        offsets = self._pair_offsets
        for start in range(0, len(self._order), size):
            stop = min(start + size, len(self._order))
            begin, end = first_match[start:stop], first_match[start + 1 : stop + 1]
            slots = begin[:, None] + np.arange((end - begin).max())
            slots[slots >= end[:, None]] = -1
            ascending = np.where(slots >= 0, self._thresholds[slots], np.inf).argsort(axis=1)
            slots = np.take_along_axis(slots, ascending, axis=1)
            queries = self._order[start:stop]
            # A threshold that is not exact yet is a precise score.
            tolerance = (self._scorer.tolerance + self._scorer.precise_tolerance)[queries]
            edges = self._edges(slots, tolerance, np.float32)
            pairs = slice(offsets[start], offsets[stop])
            yield _Chunk(
                first=start,
                queries=queries,
                slots=slots,
                edges=torch.from_numpy(edges).to(self._scorer.device),
                best=end - begin - 1,
                pair_rows=np.repeat(np.arange(stop - start), np.diff(offsets[start : stop + 1])),
                pair_columns=self._pair_columns[pairs],
                pair_scores=self._pair_scores[pairs],
                tolerance=tolerance,
            )

    def _edges(
        self, slots: Indices, tolerance: Scores, kind: type[np.floating]
    ) -> npt.NDArray[np.floating]:
        thresholds = np.where(slots >= 0, self._thresholds[slots], np.inf)
        with np.errstate(over="ignore", invalid="ignore"):
            high = np.nextafter((thresholds + tolerance[:, None]).astype(kind), kind(np.inf))
            low = np.nextafter((thresholds - tolerance[:, None]).astype(kind), kind(-np.inf))
        return np.concatenate([high, low], axis=1)

    def _count_fast(self, chunk: _Chunk, scores: Tensor, scratch: Tensor, start: int) -> bool:
        """Add the rivals of one tile; False, and nothing added, where fast scores do not do."""
        if not np.isfinite(chunk.tolerance).all():
            return False
        self._scorer.tile(chunk.queries, slice(start, start + scores.shape[1]), scores)
        if not self._hide_same_identity(chunk, scores, start):
            return False
        reached = counts_at_least(scores, chunk.edges, scratch)
        sure, possible = reached.chunk(2, dim=1)
        ambiguous = possible - sure
        num_ambiguous = int(ambiguous.sum())
        if num_ambiguous > scores.numel() // _CELLS_PER_EXACT_SCORE:
            return False
        self._add(chunk, sure)
        if num_ambiguous:
            self._decide(chunk, scores, ambiguous, start)
        if self._identities is not None:
            self._see(chunk, scores, start)
        return True

    def _count_on_device(self, chunk: _Chunk, tile_size: int) -> bool:
        """Add the rivals of the whole gallery; False, and nothing added, where that fails.

        The device is waited for once, at the end.
        """
        if not np.isfinite(chunk.tolerance).all():
            return False
        scorer, num_rows = self._scorer, len(chunk.queries)
        high, low = chunk.edges.chunk(2, dim=1)
        capacity = min(num_rows * scorer.num_gallery // _CELLS_PER_EXACT_SCORE + 1, _MAX_CELLS)
        query_ids = torch.from_numpy(self._pids[chunk.first : chunk.first + num_rows])
        if isinstance(scorer, InnerProduct):
            kernels = scorer.has_kernels
        else:  # scores of another kind are stored first
            kernels = kernels_work(scorer.device, "fp32", _PROBE_DIM)
            tile_size = min(tile_size, _DEVICE_TILE)
        counter = ChunkCounter(
            query_ids.to(scorer.device), high, low, capacity=capacity, kernels=kernels
        )
        for start in range(0, scorer.num_gallery, tile_size):
            columns = slice(start, min(start + tile_size, scorer.num_gallery))
            gallery_ids = torch.from_numpy(self._gallery_pids[columns]).to(scorer.device)
            if isinstance(scorer, InnerProduct):
                scorer.add_products(counter, chunk.queries, columns, gallery_ids)
            else:
                scores = torch.empty(
                    num_rows, len(gallery_ids), dtype=torch.float32, device=scorer.device
                )
                scorer.tile(chunk.queries, columns, scores)
                counter.add_scores(scores, gallery_ids, first_column=start)
        found = counter.result()
        if found is None:
            return False
        self._add(chunk, found.sure)
        ends, begins = high.cpu().numpy(), low.cpu().numpy()
        rows, near, values = (part.cpu().numpy() for part in found[1:])
        step = max(1, _SETTLED_CELLS // high.shape[1])
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            of_row, scores_of = rows[part], values[part, None]
            within = (scores_of >= begins[of_row]) & (scores_of < ends[of_row])
            cells, places = np.nonzero(within)
            self._settle(chunk.slots[of_row[cells], places], near[part][cells])
        return True

    def _decide(self, chunk: _Chunk, scores: Tensor, ambiguous: Tensor, start: int) -> None:
        """Add the rivals among the cells that lie between the two edges of a match."""
        flags = torch.nonzero(ambiguous).cpu().numpy()
        rows, firsts, counts = np.unique(flags[:, 0], return_index=True, return_counts=True)
        lines = gather_rows(scores, rows).cpu().numpy()
        high, low = (edge.cpu().numpy() for edge in chunk.edges.chunk(2, dim=1))
        slots, columns = [], []
        for line, row, first, count in zip(lines, rows, firsts, counts, strict=True):
            places = flags[first : first + count, 1]
            begins, ends = low[row, places], high[row, places]
            near = np.flatnonzero((line >= begins[0]) & (line < ends[-1]))
            values = line[near]
            # All windows of a row are equally wide and ascend: if any holds a score, then the first
            # that ends above it does.
            held = np.flatnonzero(begins[np.searchsorted(ends, values, side="right")] <= values)
            values = values[held, None]
            cells, windows = np.nonzero((values >= begins) & (values < ends))
            slots.append(chunk.slots[row, places[windows]])
            columns.append(near[held[cells]] + start)
        self._settle(np.concatenate(slots), np.concatenate(columns))

    def _settle(self, slots: Indices, columns: Indices) -> None:
        """Decide by exact scores whether gallery images reach matches, pair by pair."""
        queries = self._order[self._match_rows[slots]]
        exact = self._scorer.exact(queries, columns)
        near = np.abs(exact - self._thresholds[slots]) <= self._scorer.precise_tolerance[queries]
        self._make_exact(np.unique(slots[near]))
        reached = slots[exact >= self._thresholds[slots]]
        with self._lock:
            np.add.at(self._rivals, reached, 1)

    def _see(self, chunk: _Chunk, scores: Tensor, start: int) -> None:
        """Note the identities of the rivals that reach a query's best match."""
        rows = np.arange(len(chunk.queries))
        high, low = (edge.cpu().numpy()[rows, chunk.best] for edge in chunk.edges.chunk(2, dim=1))
        lows = torch.from_numpy(low).to(scores.device)[:, None]
        # The best match may be behind half of the gallery, so few rows are looked at together.
        most = _SEEN_CELLS if _counts_in_threads(scores.device) else 64 * _SEEN_CELLS
        step = max(1, most // scores.shape[1])
        for first in range(0, len(scores), step):
            part = slice(first, first + step)
            cells = torch.nonzero(scores[part] >= lows[part])
            cells[:, 0] += first
            values = scores[cells[:, 0], cells[:, 1]].cpu().numpy()
            rows, columns = cells.cpu().numpy().T
            columns = columns + start
            reached = values >= high[rows]
            unsure = np.flatnonzero(~reached)
            exact = self._scorer.exact(chunk.queries[rows[unsure]], columns[unsure])
            best = chunk.slots[rows[unsure], chunk.best[rows[unsure]]]
            reached[unsure] = exact >= self._thresholds[best]
            self._mark(chunk, rows[reached], columns[reached])

    def _count_precisely(self, chunk: _Chunk, start: int, stop: int) -> None:
        """Add the rivals of one tile where fast scores cannot tell enough of them apart."""
        self._make_exact(chunk.slots[chunk.slots >= 0])
        tolerance = self._scorer.precise_tolerance[chunk.queries]
        edges = torch.from_numpy(self._edges(chunk.slots, tolerance, np.float64))
        high, low = (edge.sort(dim=1).values for edge in edges.chunk(2, dim=1))
        thresholds = np.where(chunk.slots >= 0, self._thresholds[chunk.slots], np.inf)
        for first in range(start, stop, _PRECISE_TILE):
            columns = np.arange(first, min(first + _PRECISE_TILE, stop))
            scores = torch.from_numpy(self._scorer.precise(chunk.queries, columns))
            self._hide_same_identity(chunk, scores, first)
            # All windows of a row are equally wide: if any holds a score, then the first that ends
            # above it does.
            window = torch.searchsorted(high, scores, right=True).clamp_(max=high.shape[1] - 1)
            cells = torch.nonzero((low.gather(1, window) <= scores) & (scores < high[:, -1:]))
            rows, near = cells.numpy().T
            exact = self._scorer.exact(chunk.queries[rows], columns[near])
            scores[cells[:, 0], cells[:, 1]] = torch.from_numpy(exact)
            edge = torch.from_numpy(thresholds)
            self._add(chunk, counts_at_least(scores, edge, torch.empty_like(scores)))
            if self._identities is not None:
                best = thresholds[np.arange(len(thresholds)), chunk.best]
                rows, above = np.nonzero(scores.numpy() >= best[:, None])
                self._mark(chunk, rows, columns[above])

    def _hide_same_identity(self, chunk: _Chunk, scores: Tensor, start: int) -> bool:
        """Set the cells of the queries' own identities to -inf; they are matches or junk.

        Returns:
            Whether these cells, whose scores are known, were within the tolerance: False where the
            product was less precise than it was taken for, or is no number.
        """
        columns = chunk.pair_columns - start
        inside = np.flatnonzero((columns >= 0) & (columns < scores.shape[1]))
        rows = chunk.pair_rows[inside]
        cells = (
            torch.from_numpy(rows).to(scores.device),
            torch.from_numpy(columns[inside]).to(scores.device),
        )
        errors = np.abs(scores[cells].double().cpu().numpy() - chunk.pair_scores[inside])
        scores[cells] = -torch.inf
        return bool((errors <= chunk.tolerance[rows]).all())

    def _add(self, chunk: _Chunk, counts: Tensor) -> None:
        used = chunk.slots >= 0
        with self._lock:
            self._rivals[chunk.slots[used]] += counts.cpu().numpy()[used]

    def _mark(self, chunk: _Chunk, rows: Indices, columns: Indices) -> None:
        assert self._identities is not None
        self._seen[chunk.first + rows, self._identities[columns]] = True

    def _make_exact(self, slots: Indices) -> None:
        """Replace thresholds by the exact scores of their matches; within the tolerance anyway."""
        slots = slots[~self._is_exact[slots]]
        queries = self._order[self._match_rows[slots]]
        self._thresholds[slots] = self._scorer.exact(queries, self._match_columns[slots])
        self._is_exact[slots] = True


def _counts_in_threads(device: torch.device) -> bool:
    """Tell whether a device is the processor itself, whose threads each take a tile."""
    return device.type == "cpu"
