"""Distances of clusters: a triangle that holds those of all pairs once, or a square.

Legend: M clusters, some of which may be gone.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = [
    "FAR",
    "ClusterDistances",
    "Distances",
    "Integers",
    "Square",
    "Triangle",
    "num_pairs",
    "row_starts",
]

Distances = npt.NDArray[np.floating]
Integers = npt.NDArray[np.int64]

FAR = 1e30
"""A distance beyond all others, at which a cluster is to itself and to what is gone. It is finite,
so that sums and differences of such distances are no NaN."""

# Rows that are mirrored together.
_MIRROR_ROWS = 256


def num_pairs(num_points: int) -> int:
    """Return how many pairs so many points have: N (N - 1) / 2."""
    return num_points * (num_points - 1) // 2


def row_starts(num_points: int) -> Integers:
    """Return (N,) int64: the pair (i, j), i < j, lies at place starts[i] + j of the vector."""
    rows = np.arange(num_points, dtype=np.int64)
    return rows * (2 * num_points - rows - 1) // 2 - rows - 1


class ClusterDistances(Protocol):
    """The distances of M clusters that are left, and of some that are gone."""

    size: int

    def read(self, cluster: int, out: Distances) -> None:
        """Write the (size,) distances of a cluster; very far to itself and what is gone."""

    def merge(self, kept: int, gone: int, share: float, out: Distances) -> None:
        """Put a cluster into another one, and what ``read`` gives of that one into ``out``.

        Args:
            kept: Which one it is put into.
            gone: Which one is gone from here on.
            share: Its share of the points of both.
            out: (size,) for the mean distances: a step from one to the other, so that equal
                distances stay what they are.
        """

    def nearest(self) -> tuple[Distances, Integers]:
        """Return every cluster's smallest distance and, the lowest such, its nearest cluster."""


class Triangle:
    """Distances as a strict upper triangle, row by row.

    Attributes:
        size: M.
        far: (M,) ``FAR`` for what is gone, else 0.
    """

    def __init__(self, distances: Distances, size: int) -> None:
        self.size = size
        self.far = np.zeros_like(distances, shape=size)
        self._distances = distances
        self._starts = row_starts(size)
        self._places = np.empty(size, np.int64)
        self._other = np.empty_like(self.far)

    def read(self, cluster: int, out: Distances) -> None:
        """See ``ClusterDistances``."""
        np.take(self._distances, self._column(cluster), out=out[:cluster], mode="clip")
        out[cluster] = FAR
        out[cluster + 1 :] = self._row(cluster)
        out += self.far

    def merge(self, kept: int, gone: int, share: float, out: Distances) -> None:
        """See ``ClusterDistances``."""
        other = self._other
        self.read(kept, out)
        self.read(gone, other)
        other -= out
        other *= share
        out += other
        out[kept] = out[gone] = FAR
        self._distances[self._column(kept)] = out[:kept]
        self._row(kept)[:] = out[kept + 1 :]
        self.far[gone] = FAR

    def nearest(self) -> tuple[Distances, Integers]:
        """See ``ClusterDistances``."""
        smallest = np.full_like(self.far, FAR)
        nearest = np.zeros(self.size, np.int64)
        for cluster in range(self.size - 1):
            row = self._row(cluster)
            first = int(row.argmin())
            if row[first] < smallest[cluster]:
                smallest[cluster], nearest[cluster] = row[first], cluster + 1 + first
            closer = row < smallest[cluster + 1 :]
            np.copyto(nearest[cluster + 1 :], cluster, where=closer)
            np.copyto(smallest[cluster + 1 :], row, where=closer)
        return smallest, nearest

    def packed(self, kept: Integers) -> Square:
        """Return the clusters that are kept as a square, in this memory where it suffices."""
        size, start = len(kept), 0
        # What is written never reaches what is still to be read, here and in the next loop.
        if size < self.size:
            for place, cluster in enumerate(kept):
                width = size - 1 - place
                row = self._distances[self._starts[cluster] + kept[place + 1 :]]
                self._distances[start : start + width] = row
                start += width
        triangle, starts = self._distances, row_starts(size)
        cells = size * size
        memory = triangle if len(triangle) >= cells else np.empty_like(triangle, shape=cells)
        square = memory[:cells].reshape(size, size)
        for row, row_start in reversed(list(enumerate(starts.tolist()))):
            square[row, row + 1 :] = triangle[row_start + row + 1 : row_start + size]
        np.fill_diagonal(square, FAR)
        for top in range(0, size, _MIRROR_ROWS):
            rows = slice(top, top + _MIRROR_ROWS)
            block = square[rows, rows]
            block[:] = np.triu(block) + np.triu(block, 1).T
            square[top + _MIRROR_ROWS :, rows] = square[rows, top + _MIRROR_ROWS :].T
        return Square(square)

    def _row(self, cluster: int) -> Distances:
        start = self._starts[cluster]
        return self._distances[start + cluster + 1 : start + self.size]

    def _column(self, cluster: int) -> Integers:
        """Return the places of the distances to the clusters before this one."""
        return np.add(self._starts[:cluster], cluster, out=self._places[:cluster])


class Square:
    """Distances as a symmetric square; attributes as of ``Triangle``."""

    def __init__(self, square: Distances) -> None:
        self.size = len(square)
        self.far = np.zeros_like(square, shape=self.size)
        self._square = square

    def read(self, cluster: int, out: Distances) -> None:
        """See ``ClusterDistances``."""
        np.add(self._square[cluster], self.far, out=out)

    def merge(self, kept: int, gone: int, share: float, out: Distances) -> None:
        """See ``ClusterDistances``."""
        own = self._square[kept]
        np.subtract(self._square[gone], own, out=out)
        out *= share
        own += out
        own[kept] = FAR
        self._square[:, kept] = own
        self.far[gone] = FAR
        np.add(own, self.far, out=out)

    def nearest(self) -> tuple[Distances, Integers]:
        """See ``ClusterDistances``."""
        nearest = self._square.argmin(axis=1)
        return self._square[np.arange(self.size), nearest], nearest

    def packed(self, kept: Integers) -> Square:
        """Return the clusters that are kept, in the same memory."""
        size = len(kept)
        memory = self._square.reshape(-1)
        for place, cluster in enumerate(kept):
            memory[place * size : (place + 1) * size] = self._square[cluster].take(kept)
        return Square(memory[: size * size].reshape(size, size))
