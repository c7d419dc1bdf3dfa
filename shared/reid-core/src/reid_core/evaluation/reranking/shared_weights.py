"""How much of their encodings two images share: sums of minima over sparse rows.

Legend: N entries of an encoding, Q queries, G gallery images, R rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import sparse

from reid_core.evaluation.counting.scores import Scores
from reid_core.evaluation.rules import Indices

__all__ = ["SharedBlock", "SharedWeights"]

# Sums that are accumulated at a time (1 MB, which stays in the cache).
_CELLS = 2**17

# Minima that are looked up at a time, about (40 bytes each). A usual block has a tenth of them;
# where one image is a neighbour of all others, it has many times as many.
_MINIMA = 2**20

# Ranges begin and end at multiples of this, where that is free: the usual width of a tile.
_SPAN = 4096

# Borders of column ranges that are remembered.
_MAX_BORDERS = 64


class SharedBlock(NamedTuple):
    """Sums of some rows.

    Attributes:
        rows: Places of the rows among those asked for.
        sums: (R, W) float64; 0 where nothing is shared.
    """

    rows: slice
    sums: Scores


class SharedWeights:
    """Sums over l of min(v_ql, v_gl) for queries q and gallery images g.

    The minima of a pair are added in the order of l, whatever is computed beside it: a sum has the
    same bits in every tile.

    Args:
        encodings: (N, N) float64, none negative, rows sorted.
        queries: Rows of the queries, start and stop given.
        gallery: Rows of the gallery images, start and stop given.
    """

    def __init__(self, encodings: sparse.csr_array, queries: slice, gallery: slice) -> None:
        own = encodings[queries]
        self._query_ends = own.indptr.astype(np.int64)
        self._query_places, self._query_weights = own.indices, own.data
        # Row l: the gallery images that have a weight at l, in ascending order.
        by_place = _rows(encodings, gallery).T.tocsr()
        self._ends = by_place.indptr.astype(np.int64)
        self._columns, self._weights = by_place.indices, by_place.data
        self._width = gallery.stop - gallery.start
        self._borders: dict[int, Indices] = {}

    def span(self, columns: Indices) -> slice:
        """Return a range that holds some columns; one of few ranges, so that it is remembered."""
        if not len(columns):
            return slice(0, 0)
        first, last = int(columns.min()), int(columns.max())
        start = first // _SPAN * _SPAN
        return slice(start, min((last // _SPAN + 1) * _SPAN, self._width))

    def blocks(self, rows: Indices, columns: slice) -> Iterator[SharedBlock]:
        """Yield the sums of rows and consecutive columns, few rows at a time.

        Args:
            rows: (R,) queries.
            columns: Gallery images, start and stop given.
        """
        width = columns.stop - columns.start
        starts, stops = self._border(columns.start), self._border(columns.stop)
        step = max(1, _CELLS // max(1, width))
        for first in range(0, len(rows), step):
            part = slice(first, min(first + step, len(rows)))
            sums = self._sums(rows[part], starts, stops, columns.start, width)
            yield SharedBlock(part, sums)

    def _sums(
        self, rows: Indices, starts: Indices, stops: Indices, first_column: int, width: int
    ) -> Scores:
        entries, counts = _ranges(self._query_ends[rows], self._query_ends[rows + 1])
        owners = np.repeat(np.arange(len(rows)) * width - first_column, counts)
        places = self._query_places[entries]
        starts, stops, weights = starts[places], stops[places], self._query_weights[entries]
        shape = len(rows), width
        borders = np.flatnonzero(np.diff(np.cumsum(stops - starts) // _MINIMA)) + 1
        # Both ways add in the order of the entries, which is that of l; the first is faster.
        if not len(borders):
            cells, minima = self._minima(owners, weights, starts, stops)
            counted = np.bincount(cells, minima, minlength=len(rows) * width)
            return counted.astype(np.float64, copy=False).reshape(shape)
        sums: Scores = np.zeros(len(rows) * width)
        for first, last in pairwise([0, *borders.tolist(), len(entries)]):
            part = slice(first, last)
            np.add.at(sums, *self._minima(owners[part], weights[part], starts[part], stops[part]))
        return sums.reshape(shape)

    def _minima(
        self, owners: Indices, weights: Scores, starts: Indices, stops: Indices
    ) -> tuple[Indices, Scores]:
        """Return the minima of some entries with all that share them, and the cells they are of."""
        shared, counts = _ranges(starts, stops)
        minima = np.repeat(weights, counts)
        np.minimum(minima, self._weights[shared], out=minima)
        cells = np.repeat(owners, counts)
        cells += self._columns[shared]
        return cells, minima

    def _border(self, column: int) -> Indices:
        """Return, for every row of the transposed gallery, where its columns reach ``column``."""
        if column == 0:
            return self._ends[:-1]
        if column == self._width:
            return self._ends[1:]
        found = self._borders.get(column)
        if found is None:
            before = np.concatenate([[0], np.cumsum(self._columns < column)])
            found = self._ends[:-1] + np.diff(before[self._ends])
            if len(self._borders) >= _MAX_BORDERS:
                self._borders.clear()
            self._borders[column] = found
        return found


def _rows(matrix: sparse.csr_array, rows: slice) -> sparse.csr_array:
    """Return some rows, as views of the matrix."""
    ends = matrix.indptr[rows.start : rows.stop + 1]
    part = slice(ends[0], ends[-1])
    shape = (rows.stop - rows.start, matrix.shape[1])
    return sparse.csr_array((matrix.data[part], matrix.indices[part], ends - ends[0]), shape=shape)


def _ranges(starts: Indices, stops: Indices) -> tuple[Indices, Indices]:
    """Return start_0..stop_0-1, start_1..stop_1-1, ... and the length of each range."""
    lengths = stops - starts
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - lengths), lengths), lengths
