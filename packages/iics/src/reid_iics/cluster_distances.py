"""Distances of clusters: a triangle that holds those of all pairs once, or a square.

Legend: M clusters, some of which may be gone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

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
_MIRROR_ROWS = 64


def num_pairs(num_points: int) -> int:
    """Return how many pairs so many points have: N (N - 1) / 2."""
    return num_points * (num_points - 1) // 2


def row_starts(num_points: int) -> Integers:
    """Return (N,) int64: the pair (i, j), i < j, lies at place starts[i] + j of the vector."""
    rows = np.arange(num_points, dtype=np.int64)
    return rows * (2 * num_points - rows - 1) // 2 - rows - 1


class ClusterDistances(ABC):
    """The distances of M clusters that are left, and of some that are gone.

    Args:
        memory: All distances, contiguous.
        starts: (M,) int64: the distance of i and j, i < j, lies at starts[i] + j; the first is -1
            at the least.

    Attributes:
        size: M.
    """

    def __init__(self, memory: Distances, starts: Integers) -> None:
        self.size = len(starts)
        self._memory = memory
        self._starts = starts
        # A number would be made an array in every product, which takes as long as the product.
        self._share = np.empty_like(memory, shape=())

    @abstractmethod
    def merge(self, kept: int, gone: int, share: float, bounds: Distances) -> int:
        """Put a cluster into one before it; return and note as ``look`` does of that one.

        Mean distances are a step from one to the other, so that equal ones stay what they are.

        Args:
            kept: Which one it is put into, the lower of the two.
            gone: Which one is gone from here on.
            share: Its share of the points of both.
            bounds: As for ``look``.
        """

    @abstractmethod
    def look(self, cluster: int, bounds: Distances) -> int:
        """Return the nearest one of the clusters after one, the lowest such; note its distance.

        Args:
            cluster: Not the last one.
            bounds: (M,) where the distance is noted.
        """

    def packed(self, kept: Integers) -> Square:
        """Return the clusters that are kept as a square, in this memory.

        Args:
            kept: (K,) places of those that are left, rising; K^2 is at most the size of the memory.
        """
        size, memory = len(kept), self._memory
        # One more, and columns one less: the first start may be -1.
        starts, columns = self._starts[kept] + 1, kept - 1
        targets = np.arange(size) * (size + 1) + 1
        # Rows that move up go first, from the last one, then those that move down, from the first
        # one: so none is written onto one that is still to be read.
        up = targets > starts + kept
        order = [*np.flatnonzero(up)[::-1].tolist(), *np.flatnonzero(~up).tolist()]
        start_of, target_of = starts.tolist(), targets.tolist()
        for place in order:
            row = memory[start_of[place] :].take(columns[place + 1 :], mode="wrap")
            memory[target_of[place] : target_of[place] + len(row)] = row
        return Square(memory[: size * size].reshape(size, size))


class Triangle(ClusterDistances):
    """Distances as a strict upper triangle, row by row.

    What is gone stays in the rows of others until they are looked at.

    Args:
        distances: (M (M - 1) / 2,).
        size: M.
    """

    def __init__(self, distances: Distances, size: int) -> None:
        super().__init__(distances, row_starts(size))
        # For columns that begin one place before theirs: the first start is -1.
        self._after_starts = self._starts + 1
        self._row_ends = (self._starts + size).tolist()
        self._floor = np.full_like(distances, -FAR, shape=size)
        self._own, self._other = np.zeros_like(self._floor), np.zeros_like(self._floor)

    def smallest(self) -> Distances:
        """Return (M,) the smallest distance of each to the clusters after it; the last has none."""
        smallest = np.full_like(self._floor, FAR)
        if self.size > 1:
            firsts = self._after_starts[:-1] + np.arange(self.size - 1)
            np.minimum.reduceat(self._memory, firsts, out=smallest[:-1])
        return smallest

    def merge(self, kept: int, gone: int, share: float, bounds: Distances) -> int:
        """See ``ClusterDistances``."""
        # What stands for a cluster and itself is whatever was there before, and never looked at.
        own, other, row = self._own, self._other, self._row(kept)
        before, after = own[:kept], own[kept + 1 :]
        column, places = self._memory[max(0, kept - 1) :], self._after_starts[:kept]
        # No place is out of range; of the modes that fill an array without a copy, this is faster.
        column.take(places, out=before, mode="wrap")
        after[:] = row
        self._memory[gone - 1 :].take(self._after_starts[:gone], out=other[:gone], mode="wrap")
        other[gone + 1 :] = self._row(gone)
        other -= own
        self._share[()] = share
        other *= self._share
        own += other
        column[places] = before
        self._floor[gone] = FAR
        np.maximum(after, self._floor[kept + 1 :], out=row)
        place = int(row.argmin())
        bounds[kept] = row[place]
        return kept + 1 + place

    def look(self, cluster: int, bounds: Distances) -> int:
        """See ``ClusterDistances``."""
        row = self._row(cluster)
        np.maximum(row, self._floor[cluster + 1 :], out=row)
        place = int(row.argmin())
        bounds[cluster] = row[place]
        return cluster + 1 + place

    def _row(self, cluster: int) -> Distances:
        end = self._row_ends[cluster]
        return self._memory[end + cluster + 1 - self.size : end]


class Square(ClusterDistances):
    """Distances as a symmetric square.

    Args:
        square: (M, M) contiguous, of which the part above the diagonal is given; the rest is filled
            in here.
    """

    def __init__(self, square: Distances) -> None:
        size = len(square)
        super().__init__(square.reshape(-1), np.arange(size) * size)
        self._square = square
        self._step = np.empty_like(square, shape=size)
        np.fill_diagonal(square, 0)
        for top in range(0, size, _MIRROR_ROWS):
            rows, below = slice(top, top + _MIRROR_ROWS), slice(top + _MIRROR_ROWS, None)
            block = square[rows, rows]
            np.copyto(block, block.T, where=np.tri(len(block), k=-1, dtype=bool))
            square[below, rows] = square[rows, below].T

    def merge(self, kept: int, gone: int, share: float, bounds: Distances) -> int:
        """See ``ClusterDistances``."""
        own, step = self._square[kept], self._step
        np.subtract(self._square[gone], own, out=step)
        self._share[()] = share
        step *= self._share
        own += step
        self._square[:, kept] = own
        # Means with what stays in the other half of the row are far, too: FAR / N at the least.
        self._square[:gone, gone] = FAR
        after = own[kept + 1 :]
        place = int(after.argmin())
        bounds[kept] = after[place]
        return kept + 1 + place

    def look(self, cluster: int, bounds: Distances) -> int:
        """See ``ClusterDistances``."""
        row = self._square[cluster, cluster + 1 :]
        place = int(row.argmin())
        bounds[cluster] = row[place]
        return cluster + 1 + place
