"""Average linkage, and everything from features to pseudo labels: ours, libraries, a reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cost.problem import Integers, Scores
from cost.rerank_contestants import CONFIG, dense_encodings
from reid_iics.clustering import Dendrogram, ThresholdClusters
from reid_iics.pseudo_labels import inter_camera_labels

__all__ = ["CONTESTANTS", "OURS", "PARTS", "SHARE", "ClusteringContestant", "Part"]

OURS = "reid-iics"
Part = Literal["dendrogram", "stage"]
PARTS: tuple[Part, ...] = ("dendrogram", "stage")

SHARE = 0.0017
"""Of the distances, below the threshold (official, between cameras)."""


@dataclass(frozen=True, kw_only=True)
class ClusteringContestant:
    """A way to cluster.

    Attributes:
        name: Short.
        does: What it is, for the report.
        part: What it does: ``dendrogram`` from distances, or the whole ``stage`` from features.
        prepare: Puts what the file holds into the form that it takes: the condensed distances,
            or the features and the cameras.
        run: Returns (N,) labels of what was prepared; for a dendrogram, of K clusters.
        requires: Importable module that it needs; empty where it needs none.
        max_images: Most images that it is asked for.
    """

    name: str
    does: str
    part: Part
    prepare: Callable[[Any], Any]
    run: Callable[[Any, int], Integers]
    requires: str = ""
    max_images: int = 2**20

    @property
    def installed(self) -> bool:
        """Whether what it needs can be found."""
        return not self.requires or find_spec(self.requires) is not None


def run_ours(distances: Scores, num_clusters: int) -> Integers:
    """Merge in the memory of the distances, with ``reid_iics``."""
    return Dendrogram.of(distances).cut_into(num_clusters)


def run_scikit_learn(distances: Scores, num_clusters: int) -> Integers:
    """Run AgglomerativeClustering on a square matrix."""
    from sklearn.cluster import AgglomerativeClustering

    model = AgglomerativeClustering(num_clusters, metric="precomputed", linkage="average")
    labels: Integers = model.fit_predict(distances)
    return labels


def run_scipy(distances: Scores, num_clusters: int) -> Integers:
    """Run SciPy's linkage on a condensed vector."""
    from scipy.cluster.hierarchy import fcluster, linkage

    return fcluster(linkage(distances, "average"), num_clusters, "maxclust").astype(np.int64)


def run_fastcluster(distances: Scores, num_clusters: int) -> Integers:
    """Run fastcluster's linkage on a condensed vector that it may destroy."""
    import fastcluster
    from scipy.cluster.hierarchy import fcluster

    merges = fastcluster.linkage(distances, "average", preserve_input=False)
    labels: Integers = fcluster(merges, num_clusters, "maxclust").astype(np.int64)
    return labels


def as_square(distances: Scores) -> Scores:
    """Return the symmetric matrix of condensed distances, in float32."""
    count = (1 + int((1 + 8 * len(distances)) ** 0.5)) // 2
    square = np.zeros((count, count), np.float32)
    start = 0
    for row in range(count - 1):
        square[row, row + 1 :] = distances[start : start + count - 1 - row]
        square[row + 1 :, row] = square[row, row + 1 :]
        start += count - 1 - row
    return square


def run_stage(features: tuple[Tensor, Integers], num_clusters: int) -> Integers:
    """Make pseudo labels with ``reid_iics``."""
    rule = ThresholdClusters(share=SHARE)
    return inter_camera_labels(*features, rule).labels


def run_dense_stage(features: tuple[Tensor, Integers], num_clusters: int) -> Integers:
    """Do the same with N x N arrays in float32, a full sort and scikit-learn."""
    from sklearn.cluster import AgglomerativeClustering

    distances: Scores = 1 - torch.mm(features[0], features[0].T).numpy()
    # The columns of the specification: the matrix is symmetric, so that rows do.
    distances -= distances.min(axis=1, keepdims=True)
    distances /= distances.max(axis=1, keepdims=True)
    final = _jaccard_distances(dense_encodings(distances))
    final *= 1 - CONFIG.lambda_value
    distances *= CONFIG.lambda_value
    final += distances
    del distances
    ascending = np.sort(final[np.triu_indices(len(final), 1)])
    ascending = ascending[ascending != 0]
    threshold = ascending[round(SHARE * len(ascending))]
    del ascending
    model = AgglomerativeClustering(
        None, metric="precomputed", linkage="average", distance_threshold=threshold
    )
    labels: Integers = model.fit_predict(final)
    return labels


def _jaccard_distances(weights: Scores) -> Scores:
    """Return 1 - m / (2 - m) with m = sum_l min(v_il, v_jl), (N, N)."""
    holders = [np.flatnonzero(column) for column in weights.T]
    distances = np.zeros_like(weights)
    for image, shared in enumerate(distances):
        for entry in np.flatnonzero(weights[image]):
            images = holders[entry]
            shared[images] += np.minimum(weights[image, entry], weights[images, entry])
        np.subtract(1, shared / (2 - shared), out=shared)
    return np.maximum(distances, 0, out=distances)


CONTESTANTS = (
    ClusteringContestant(
        name=OURS,
        does="average linkage in the memory of the distances (float32)",
        part="dendrogram",
        prepare=np.copy,
        run=run_ours,
    ),
    ClusteringContestant(
        name="scikit-learn",
        does="AgglomerativeClustering on the square matrix (float32)",
        part="dendrogram",
        prepare=as_square,
        run=run_scikit_learn,
        requires="sklearn",
        max_images=14_000,
    ),
    ClusteringContestant(
        name="SciPy",
        does="linkage on the condensed vector (float64)",
        part="dendrogram",
        prepare=np.float64,
        run=run_scipy,
        max_images=14_000,
    ),
    ClusteringContestant(
        name="fastcluster",
        does="linkage on the condensed vector (float64), which it may destroy",
        part="dendrogram",
        prepare=np.float64,
        run=run_fastcluster,
        requires="fastcluster",
        max_images=14_000,
    ),
    ClusteringContestant(
        name=OURS,
        does="features to labels in one vector of all pairs",
        part="stage",
        prepare=lambda found: found,
        run=run_stage,
    ),
    ClusteringContestant(
        name="dense",
        does="reference of our own: N x N arrays in NumPy, float32, a full sort, scikit-learn",
        part="stage",
        prepare=lambda found: found,
        run=run_dense_stage,
        requires="sklearn",
        max_images=14_000,
    ),
)
