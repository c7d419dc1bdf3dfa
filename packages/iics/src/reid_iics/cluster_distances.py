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
_MIRROR_ROWS = 128


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

    def merge(self, kept: int, gone: int, share: float, bounds: Distances) -> int:
        """Put a cluster into one before it; return and note as ``look`` does of that one.

        Mean distances are a step from one to the other, so that equal ones stay what they are.

        Args:
            kept: Which one it is put into, the lower of the two.
            gone: Which one is gone from here on.
            share: Its share of the points of both.
            bounds: As for ``look``.
        """

    def look(self, cluster: int, bounds: Distances) -> int:
        """Return the nearest one of the clusters after one, the lowest such; note its distance.

        Args:
            cluster: Not the last one.
            bounds: (M,) where the distance is noted.
        """


class Triangle:
    """Distances as a strict upper triangle, row by row.

    Attributes:
        size: M.
    """

    def __init__(self, distances: Distances, size: int) -> None:
        self.size = size
        self._distances = distances
        # One more, and columns from the place before theirs: the first start is -1.
        self._starts = row_starts(size) + 1
        self._floor = np.full_like(distances, -FAR, shape=size)
        self._own, self._other = np.zeros_like(self._floor), np.zeros_like(self._floor)

    def smallest(self) -> Distances:
        """Return (M,) the smallest distance of each to the clusters after it; the last has none."""
        smallest = np.full_like(self._floor, FAR)
        if self.size > 1:
            first = self._starts[:-1] + np.arange(self.size - 1)
            np.minimum.reduceat(self._distances, first, out=smallest[:-1])
        return smallest

    def merge(self, kept: int, gone: int, share: float, bounds: Distances) -> int:
        """See ``ClusterDistances``."""
        # What stands for a cluster and itself is whatever was there before, and never looked at.
        own, other, row = self._own, self._other, self._row(kept)
        places = self._starts[:kept]
        column = self._distances[max(0, kept - 1) :]
        column.take(places, out=own[:kept], mode="clip")
        own[kept + 1 :] = row
        self._distances[gone - 1 :].take(self._starts[:gone], out=other[:gone], mode="clip")
        other[gone + 1 :] = self._row(gone)
        other -= own
        other *= share
        own += other
        column[places] = own[:kept]
        self._floor[gone] = FAR
        after = own[kept + 1 :]
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

    def packed(self, kept: Integers) -> Square:
        """Return the clusters that are kept as a square, in this memory.

        Args:
            kept: At most so many that the cells of the square are no more than the distances.
        """
        size, end = len(kept), 0
        # What is written never reaches what is still to be read, here and in the next loop.
        for place, cluster in enumerate(kept.tolist()):
            row = self._row(cluster).take(kept[place + 1 :] - (cluster + 1))
            self._distances[end : end + len(row)] = row
            end += len(row)
        square = self._distances[: size * size].reshape(size, size)
        for place in reversed(range(size)):
            start = end - (size - 1 - place)
            square[place, place + 1 :] = self._distances[start:end]
            end = start
        np.fill_diagonal(square, 0)
        for top in range(0, size, _MIRROR_ROWS):
            rows = slice(top, top + _MIRROR_ROWS)
            block = square[rows, rows]
            block[:] = np.triu(block) + np.triu(block, 1).T
            square[top + _MIRROR_ROWS :, rows] = square[rows, top + _MIRROR_ROWS :].T
        return Square(square)

    def _row(self, cluster: int) -> Distances:
        start = int(self._starts[cluster]) - 1
        return self._distances[start + cluster + 1 : start + self.size]


class Square:
    """Distances as a symmetric square; attributes as of ``Triangle``."""

    def __init__(self, square: Distances) -> None:
        self.size = len(square)
        self._square = square
        self._step = np.empty_like(square, shape=self.size)

    def merge(self, kept: int, gone: int, share: float, bounds: Distances) -> int:
        """See ``ClusterDistances``."""
        own, step = self._square[kept], self._step
        np.subtract(self._square[gone], own, out=step)
        step *= share
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
        row = self._square[cluster]
        place = cluster + 1 + int(row[cluster + 1 :].argmin())
        bounds[cluster] = row[place]
        return place

    def packed(self, kept: Integers) -> Square:
        """Return the clusters that are kept, in the same memory."""
        size = len(kept)
        memory = self._square.reshape(-1)
        for place, cluster in enumerate(kept):
            memory[place * size : (place + 1) * size] = self._square[cluster].take(kept)
        return Square(memory[: size * size].reshape(size, size))
