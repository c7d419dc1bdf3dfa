"""Average linkage (UPGMA) in the memory of the distances themselves.

The distances of all pairs lie in one vector, the strict upper triangle row by row: 2 N^2 bytes in
float32. No library works in place: SciPy, fastcluster and scikit-learn copy the vector (to float64)
before they begin, which at 30,000 images is the difference between 2 GB and 7 to 16 GB.

The nearest pair is merged again and again. Every cluster remembers the nearest one of those after
it; as an average is never below both of its terms, what is remembered stays a lower bound when
others merge (into the lower place of the two), and a row is read again only when its bound is the
smallest of all. To merge in the triangle is slow (half of what a cluster has is a column), so that
once the rest fits, as a square, into the memory of the vector, it is spread out there.

Legend: N points, M clusters that are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reid_core.errors import ReIDError
from reid_iics.cluster_distances import (
    FAR,
    ClusterDistances,
    Distances,
    Integers,
    Triangle,
    num_pairs,
)

__all__ = ["ClusteringError", "Merges", "average_linkage"]

# The square is packed again when this share of its clusters is left, if it has at least so many.
_PACK_SHARE = 0.6
_PACK_LEAST = 2048

_PROGRESS_STEPS = 512

# No version of a cluster.
_NEVER = -2


class ClusteringError(ReIDError):
    """Images cannot be clustered: their distances are not finite, or none differ."""


class Merges(NamedTuple):
    """The merges of N points to one cluster, in the order of their heights.

    Attributes:
        pairs: (N - 1, 2) int64, the first points of the two clusters that are merged, the lower
            one first.
        heights: (N - 1,) float64, mean distance of the points of the two, never falling.
    """

    pairs: Integers
    heights: npt.NDArray[np.float64]


def average_linkage(
    distances: Distances,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Merges:
    """Merge points by average linkage: the distance of clusters is the mean over their pairs.

    The result is that of ``scipy.cluster.hierarchy.linkage(distances, "average")`` but for rounding
    (float32 distances are averaged in float32, about 1e-7) and for the order of equal distances,
    of which the pair with the lowest points is merged first where they are single points.

    Args:
        distances: (N (N - 1) / 2,) float32 or float64, the pairs (0, 1), (0, 2), ..., (1, 2), ...;
            contiguous and **overwritten**. They may be negative.
        progress: Called with (merges done, N - 1) now and then.

    Returns:
        The merges; the same bits for the same distances.

    Raises:
        ClusteringError: Not as many distances as points can have, of another type, or not finite.
    """
    num_points = _check(distances)
    triangle = Triangle(distances, num_points)
    merges = _Agglomeration(triangle.smallest(), progress)
    merges.run(triangle, _row_length(math.isqrt(len(distances))))
    clusters: ClusterDistances = triangle
    while not merges.is_done:
        clusters = clusters.packed(merges.keep_alive())
        size = clusters.size
        merges.run(clusters, _row_length(int(_PACK_SHARE * size)) if size >= _PACK_LEAST else 1)
    return merges.result()


def _row_length(size: int) -> int:
    """Return a length up to ``size`` with which a column of a square is fast to write.

    An odd multiple of 64 bytes puts the rows of a column into all sets of a cache; a multiple of
    4096 puts them all into one, which is twenty times slower.
    """
    return max(1, (size - 16) // 32 * 32 + 16)


def _check(distances: Distances) -> int:
    """Return N."""
    num_points = (1 + math.isqrt(1 + 8 * distances.size)) // 2
    is_vector = distances.ndim == 1 and distances.flags.c_contiguous and distances.flags.writeable
    if num_pairs(num_points) != distances.size or not is_vector:
        raise ClusteringError(
            f"{distances.size:,} distances of shape {distances.shape} are not those of all pairs "
            "of N points; give a contiguous, writeable vector of N (N - 1) / 2"
        )
    if distances.dtype not in (np.float32, np.float64):
        raise ClusteringError(f"distances are {distances.dtype}; use float32 or float64")
    if distances.size:
        # Either is NaN where one distance is. What is gone stays farther: FAR / N, at the least.
        low, high = float(distances.min()), float(distances.max())
        if not max(-low, high) < FAR / 2**24:
            raise ClusteringError(
                f"distances lie between {low:.3g} and {high:.3g}; finite ones are needed. Has the "
                "network diverged?"
            )
    return num_points


class _Agglomeration:
    """The clusters that are left and the merges so far.

    Of every cluster are known, by its place in the distances: how many points it has, the first of
    them, a lower bound of its distances to the clusters after it, the (presumed) nearest one of
    those, the version of that one at the time, and its own version (it changes when the cluster
    does; -1 once it is gone). The bound is the distance to the nearest one where that one has not
    changed since.

    Args:
        bounds: (N,) lower bounds of the distances of each point to those after it.
        progress: As of ``average_linkage``.
    """

    def __init__(self, bounds: Distances, progress: Callable[[int, int], None]) -> None:
        num_points = len(bounds)
        self._progress = progress
        self._total = num_points - 1
        # Two of each merge.
        self._pairs: list[int] = []
        self._heights: list[float] = []
        self._counts = [1] * num_points
        self._points = list(range(num_points))
        self._versions = [0] * num_points
        self._bounds = bounds
        self._nearest = [0] * num_points
        self._seen = [_NEVER] * num_points

    @property
    def is_done(self) -> bool:
        """Whether one cluster is left (or there never was a point)."""
        return len(self._heights) >= self._total

    def run(self, clusters: ClusterDistances, least: int) -> None:
        """Merge until ``least`` clusters are left."""
        bounds, nearest, seen, versions = self._bounds, self._nearest, self._seen, self._versions
        counts, points, pairs, heights = self._counts, self._points, self._pairs, self._heights
        for done in range(len(heights) + 1, self._total + 2 - least):
            kept = int(bounds.argmin())
            while seen[kept] != versions[gone := nearest[kept]]:
                nearest[kept] = found = clusters.look(kept, bounds)
                seen[kept] = versions[found]
                kept = int(bounds.argmin())
            pairs += points[kept], points[gone]
            heights.append(bounds.item(kept))
            counts[kept] += counts[gone]
            nearest[kept] = found = clusters.merge(kept, gone, counts[gone] / counts[kept], bounds)
            seen[kept] = versions[found]
            versions[kept] += 1
            versions[gone] = -1
            bounds[gone] = FAR
            if done % _PROGRESS_STEPS == 0 or done == self._total:
                self._progress(done, self._total)

    def keep_alive(self) -> Integers:
        """Forget what is gone and return the places of the clusters that are left."""
        versions = np.array(self._versions)
        kept = np.flatnonzero(versions >= 0)
        places = np.full(len(versions), -1)
        places[kept] = np.arange(len(kept))
        nearest = places[np.array(self._nearest)[kept]]
        # Those whose nearest one is gone are looked at again when it is their turn.
        self._seen = np.where(nearest >= 0, np.array(self._seen)[kept], _NEVER).tolist()
        self._nearest = np.maximum(nearest, 0).tolist()
        self._versions = versions[kept].tolist()
        self._counts, self._points = (
            [values[cluster] for cluster in kept.tolist()]
            for values in (self._counts, self._points)
        )
        self._bounds = self._bounds[kept]
        self._bounds[-1] = FAR  # Those after it are gone.
        return kept

    def result(self) -> Merges:
        """Return the merges."""
        # Rounding may put a merge below the one before it by a last bit.
        heights = np.maximum.accumulate(np.array(self._heights, dtype=np.float64))
        return Merges(np.array(self._pairs, dtype=np.int64).reshape(-1, 2), heights)
