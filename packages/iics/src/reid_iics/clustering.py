"""Clusters from a dendrogram, and where to cut it. Imports no torch.

Legend: N images, K clusters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid_core.errors import ConfigError
from reid_iics.cluster_distances import Distances, Integers
from reid_iics.linkage import ClusteringError, Merges, average_linkage

__all__ = [
    "ClusterRule",
    "Dendrogram",
    "FixedClusters",
    "ThresholdClusters",
    "distance_quantile",
    "number_by_appearance",
]

# Distances looked at together.
_BLOCK = 2**16


@dataclass(frozen=True, kw_only=True)
class FixedClusters:
    """As many clusters as are asked for (the paper; official script ``iics.py``).

    Raises:
        ConfigError: Fewer than 1.
    """

    num_clusters: int
    """Clusters, of each camera or of all images; official values are 600 and 800."""

    def __post_init__(self) -> None:
        if self.num_clusters < 1:
            raise ConfigError(f"num_clusters={self.num_clusters}; use 1 or more, e.g. 600")


@dataclass(frozen=True, kw_only=True)
class ThresholdClusters:
    """As many clusters as a share of all distances makes (official ``iics_threshold.py``).

    Raises:
        ConfigError: The share is out of range.
    """

    share: float
    """Share of the pairs whose distance lies below the threshold, from 0 to below 1; official
    values are 0.0025 within a camera and 0.0017 between cameras."""

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ConfigError(f"share={self.share} of all distances; use 0 to below 1, e.g. 0.0017")


ClusterRule = FixedClusters | ThresholdClusters


@dataclass(frozen=True, eq=False)
class Dendrogram:
    """Merges of N images to one cluster; any number of clusters is read off it.

    Attributes:
        merges: In the order of their heights.
    """

    merges: Merges

    @classmethod
    def of(
        cls,
        distances: Distances,
        *,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Dendrogram:
        """Build it by average linkage; see ``average_linkage`` (``distances`` is overwritten)."""
        return cls(average_linkage(distances, progress=progress))

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.merges.heights) + 1

    def cut_into(self, num_clusters: int) -> Integers:
        """Return the labels of exactly K clusters: the first N - K merges are applied.

        Counting merges always gives K clusters, also where heights are equal.

        Args:
            num_clusters: K, from 1 to N.

        Returns:
            (N,) int64 in 0..K-1, numbered by their first image.

        Raises:
            ConfigError: There are not so many images.
        """
        if not 1 <= num_clusters <= self.num_images:
            raise ConfigError(
                f"num_clusters={num_clusters} of {self.num_images} images; use 1 to "
                f"{self.num_images}"
            )
        return self._labels(self.num_images - num_clusters)

    def cut_below(self, height: float) -> Integers:
        """Return the labels of the clusters that merges below a height make.

        There is one cluster more than there are merges at the height or above (official
        behaviour).

        Returns:
            (N,) int64 in 0..K-1, numbered by their first image.
        """
        return self._labels(int(np.searchsorted(self.merges.heights, height, side="left")))

    def _labels(self, num_merges: int) -> Integers:
        kept, gone = self.merges.pairs[:num_merges].T
        # No image is gone twice: each leads to a lower one of its cluster, the first to itself.
        lower = np.arange(self.num_images)
        lower[gone] = kept
        while (lower != (lowest := lower[lower])).any():
            lower = lowest
        return number_by_appearance(lower)


def number_by_appearance(labels: npt.ArrayLike) -> Integers:
    """Return (N,) int64 labels 0, 1, ... of the same clusters, numbered by their first image."""
    _, first, places = np.unique(np.asarray(labels), return_index=True, return_inverse=True)
    numbers = np.empty(len(first), np.int64)
    numbers[np.argsort(first)] = np.arange(len(first))
    return numbers[places]


def distance_quantile(distances: Distances, share: float) -> float:
    """Return the distance that a share of all pairs does not reach.

    It is entry ``round(share * n)`` (counted from 0, halves to even) of the n distances that are
    not exactly 0, in ascending order (official behaviour). Only the smallest ones are kept while
    the distances are looked at, so that no copy of all of them is made.

    Args:
        distances: (n,) of any order, float32 or float64.
        share: From 0 to below 1, as of ``ThresholdClusters``.

    Raises:
        ClusteringError: All distances are 0.
    """
    total = int(np.count_nonzero(distances))
    if not total:
        raise ClusteringError(
            f"none of {len(distances):,} distances differs from 0, so that no threshold tells "
            "images apart; use a fixed number of clusters, or check the features"
        )
    place = min(round(share * total), total - 1)
    parts: list[Distances] = []
    bound, found = np.inf, 0
    for start in range(0, len(distances), _BLOCK):
        block = distances[start : start + _BLOCK]
        parts.append(block[(block <= bound) & (block != 0)])
        found += len(parts[-1])
        if found > 2 * place + _BLOCK:
            # A copy, without which all of them would be kept.
            parts = [np.partition(np.concatenate(parts), place)[: place + 1].copy()]
            bound, found = parts[0][place], place + 1
    return float(np.partition(np.concatenate(parts), place)[place])
