"""How good clusters are, where identities are known. Imports no torch.

Legend: N images, K clusters, G groups of images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reid_core.errors import ConfigError
from reid_iics.cluster_distances import Integers
from reid_iics.clustering import number_by_appearance

__all__ = ["ClusterQuality", "cluster_quality"]


@dataclass(frozen=True, kw_only=True)
class ClusterQuality:
    """What pseudo labels are like; shares are from 0 to 1.

    Those that need identities are None where none are known, or where there is no pair of the kind.
    They are for the eyes of people: training never sees them.

    Attributes:
        num_images: N.
        num_clusters: K.
        num_singletons: Clusters of one image.
        largest: Images of the largest cluster.
        purity: Share of images whose identity is the most frequent one of their cluster.
        ari: Adjusted Rand index (Hubert and Arabie, 1985), at most 1, about 0 for random clusters.
        nmi: Mutual information over the mean of both entropies.
        cross_camera_recall: Share of the pairs of one identity in different cameras that lie in one
            cluster.
        cross_camera_precision: Share of the pairs of one cluster in different cameras that are of
            one identity.
    """

    num_images: int
    num_clusters: int
    num_singletons: int
    largest: int
    purity: float | None = None
    ari: float | None = None
    nmi: float | None = None
    cross_camera_recall: float | None = None
    cross_camera_precision: float | None = None


def cluster_quality(
    labels: npt.ArrayLike,
    pids: npt.ArrayLike | None = None,
    camids: npt.ArrayLike | None = None,
) -> ClusterQuality:
    """Compare clusters with identities.

    Args:
        labels: (N,) integers, clusters.
        pids: (N,) integers, identities; None where they are unknown.
        camids: (N,) integers, cameras; None for no figures of cross-camera pairs.

    Raises:
        ConfigError: Of different lengths, or no images.
    """
    clusters = number_by_appearance(labels)
    sizes = np.bincount(clusters)
    if not len(sizes):
        raise ConfigError("no images were clustered, so that there is no quality to tell")
    quality = ClusterQuality(
        num_images=len(clusters),
        num_clusters=len(sizes),
        num_singletons=int(np.count_nonzero(sizes == 1)),
        largest=int(sizes.max()),
    )
    if pids is None:
        return quality
    people = _as_numbers(pids, len(clusters), "pids")
    found = _joint(clusters, people)
    best = np.zeros(len(sizes), np.int64)
    np.maximum.at(best, clusters[found.first], found.counts)
    quality = replace(
        quality,
        purity=int(best.sum()) / len(clusters),
        ari=_adjusted_rand(sizes, np.bincount(people), found.counts),
        nmi=_mutual_information(clusters, people, found),
    )
    if camids is None:
        return quality
    cameras = _as_numbers(camids, len(clusters), "camids")
    both, of_people, of_clusters = (
        _pairs(np.bincount(labels)) - _pairs(_joint(labels, cameras).counts)
        for labels in (found.labels, people, clusters)
    )
    return replace(
        quality,
        cross_camera_recall=both / of_people if of_people else None,
        cross_camera_precision=both / of_clusters if of_clusters else None,
    )


@dataclass(frozen=True, eq=False)
class _Joint:
    """Images that agree in two kinds of labels.

    Attributes:
        labels: (N,) number of each image's group.
        first: (G,) an image of each group.
        counts: (G,) images of each group.
    """

    labels: Integers
    first: Integers
    counts: Integers


def _joint(left: Integers, right: Integers) -> _Joint:
    keys = left * (int(right.max()) + 1) + right
    found = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    return _Joint(labels=found[2], first=found[1], counts=found[3])


def _as_numbers(values: npt.ArrayLike, count: int, name: str) -> Integers:
    array = np.asarray(values)
    if array.shape != (count,):
        raise ConfigError(f"{name} have shape {array.shape}; one for each of {count} images")
    return number_by_appearance(array)


def _pairs(counts: Integers) -> int:
    return int((counts * (counts - 1) // 2).sum())


def _adjusted_rand(sizes: Integers, others: Integers, joint: Integers) -> float:
    """Return the index from the sizes of clusters, of identities, and of what both share."""
    together, left, right = _pairs(joint), _pairs(sizes), _pairs(others)
    total = _pairs(np.array([sizes.sum()]))
    expected = left * right / total if total else 0.0
    largest = (left + right) / 2
    return 1.0 if largest == expected else (together - expected) / (largest - expected)


def _mutual_information(clusters: Integers, people: Integers, joint: _Joint) -> float:
    count = len(clusters)
    shares = [sizes / count for sizes in (np.bincount(clusters), np.bincount(people), joint.counts)]
    left, right, both = (float(-(share * np.log(share)).sum()) for share in shares)
    return 1.0 if left + right == 0 else 2 * max(left + right - both, 0.0) / (left + right)
