"""Pseudo labels: the clusters of every camera's images, and of all images.

Features -> distances of all pairs -> re-ranked distances -> dendrogram -> labels. Each step puts
its result in the memory of the one before. Person ids are never used.

Legend: N images, n images of a camera, D embedding size, S class scores of an image, K clusters.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_core.errors import ConfigError
from reid_core.evaluation import RerankConfig, rerank_set
from reid_core.memory import MemoryPlan
from reid_iics.cluster_distances import Distances, Integers
from reid_iics.clustering import (
    ClusterRule,
    Dendrogram,
    FixedClusters,
    distance_quantile,
    number_by_appearance,
)
from reid_iics.clustering_memory import RERANKING, least_rerank_bytes, plan_pseudo_labels
from reid_iics.pair_distances import PairDistances, put_reranked
from reid_iics.similarity import ClassScores, mixed_distances

__all__ = ["PseudoLabels", "inter_camera_labels", "intra_camera_labels"]

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is, and of how much."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PseudoLabels:
    """Clusters of some images.

    Attributes:
        images: (n,) int64, places of the images among the features, ascending.
        labels: (n,) int64 in 0..K-1, the cluster of each, numbered by their first image.
        num_clusters: K, the classes of the head that is trained on them.
        camid: Their camera; None for images of all cameras.
        threshold: Distance below which clusters were merged; None for a fixed number, and for a
            single image.
    """

    images: Integers
    labels: Integers
    num_clusters: int
    camid: int | None = None
    threshold: float | None = None


def intra_camera_labels(
    features: Tensor,
    camids: npt.ArrayLike,
    rule: ClusterRule,
    *,
    rerank: RerankConfig | None = RERANKING,
    legacy_small_cameras: bool = False,
    device: torch.device | None = None,
    memory_limit: str | None = None,
    progress: Progress = lambda what, done, total: None,
) -> list[PseudoLabels]:
    """Cluster the images of each camera by themselves (stage 1).

    A camera with n < K images gets max(1, floor(n / 2)) clusters instead of K.

    Args:
        features: (N, D) float, z of the un-augmented training images, not normalised.
        camids: (N,) integers.
        rule: Fixed: K clusters in every camera (official 600). Threshold: of each camera's own
            distances (official share 0.0025).
        rerank: None for clusters of plain cosine distances (a row of the paper's tables).
        legacy_small_cameras: What the official code does with a camera of n < K images in fixed
            mode: every image enters twice, 2 n points become floor(n / 2) clusters, and **all
            cameras after it** get floor(n / 2) clusters, too. Equal distances abound then; which of
            them comes first differs from the official code.
        device: Where products are computed; by default where the features lie.
        memory_limit: As ``--memory-limit``.
        progress: Told how far the work on each camera is.

    Returns:
        A cluster set per camera, in the order of their first image: head k belongs to entry k.

    Raises:
        ClusteringError: Features are not finite, or none differ (threshold).
        ConfigError: Not one camera per image, or no images.
        MemoryLimitError: The largest camera does not fit; the message says what needs how much.
    """
    cameras = _check_cameras(features, camids)
    order = number_by_appearance(cameras)
    sizes = np.bincount(order)
    largest = int(sizes.max())
    if legacy_small_cameras and isinstance(rule, FixedClusters):
        doubled = sizes[sizes < rule.num_clusters] * 2
        largest = max(largest, int(doubled.max(initial=0)))
    plan = MemoryPlan(memory_limit)
    plan_pseudo_labels(plan, largest, rerank=rerank)
    plan.require("clustering the images of a camera")
    found = []
    for number in range(len(sizes)):
        images = np.flatnonzero(order == number)
        camid = int(cameras[images[0]])
        told = _naming(progress, f"camera {camid}")
        rows = torch.from_numpy(images).to(features.device)
        pairs = mixed_distances(features[rows], device=device, progress=partial(told, "distances"))
        own_rule = rule
        if isinstance(rule, FixedClusters) and len(images) < rule.num_clusters:
            own_rule = _smaller_rule(rule, camid, len(images))
            if legacy_small_cameras:
                rule = own_rule
                distances = _doubled(pairs, rerank, plan)
            else:
                distances = _final_distances(pairs, rerank, plan, told)
        else:
            distances = _final_distances(pairs, rerank, plan, told)
        labels, threshold = _cut(distances, own_rule, told)
        labels = number_by_appearance(labels[: len(images)])
        found.append(
            PseudoLabels(
                images=images,
                labels=labels,
                num_clusters=int(labels.max()) + 1,
                camid=camid,
                threshold=threshold,
            )
        )
    return found


def inter_camera_labels(
    features: Tensor,
    camids: npt.ArrayLike,
    rule: ClusterRule,
    *,
    scores: Tensor | None = None,
    num_heads: int | None = None,
    mixing_rate: float = 0.0,
    rerank: RerankConfig | None = RERANKING,
    device: torch.device | None = None,
    memory_limit: str | None = None,
    progress: Progress = lambda what, done, total: None,
) -> PseudoLabels:
    """Cluster all images together (stage 2).

    Images of different cameras come nearer by mu times the similarity of their class scores.

    Args:
        features: (N, D) float, z of the un-augmented training images, not normalised.
        camids: (N,) integers.
        rule: Official: 800 clusters, or a share of 0.0017.
        scores: (N, S) float, the soft-max scores of all heads of stage 1, one head after the other,
            on the un-normalised z; None for none.
        num_heads: How many heads; by default as many as there are cameras.
        mixing_rate: mu of this cycle; 0 leaves the scores out.
        rerank: None for clusters of the distances themselves.
        device: Where products and scores are computed; by default where the features lie.
        memory_limit: As ``--memory-limit``.
        progress: Told how far the work is.

    Returns:
        The clusters, fewer than asked for where there are fewer images.

    Raises:
        ClusteringError: Features are not finite, or none differ (threshold).
        ConfigError: Cameras or scores do not go with the features, or there are no images.
        MemoryLimitError: It does not fit; the message says what needs how much.
    """
    cameras = _check_cameras(features, camids)
    if mixing_rate and scores is None:
        raise ConfigError(
            f"mixing_rate={mixing_rate} mixes class scores into the distances, and there are none; "
            "give scores, or use 0"
        )
    plan = MemoryPlan(memory_limit)
    plan_pseudo_labels(plan, len(features), rerank=rerank)
    plan.require("clustering all images")
    class_scores = None
    if scores is not None:
        num_heads = len(np.unique(cameras)) if num_heads is None else num_heads
        class_scores = ClassScores(scores, num_heads, device=device)
    told = _naming(progress, "all cameras")
    pairs = mixed_distances(
        features,
        class_scores=class_scores,
        camids=cameras,
        mixing_rate=mixing_rate,
        device=device,
        progress=partial(told, "distances"),
    )
    if isinstance(rule, FixedClusters) and len(features) < rule.num_clusters:
        rule = _smaller_rule(rule, None, len(features))
    labels, threshold = _cut(_final_distances(pairs, rerank, plan, told), rule, told)
    return PseudoLabels(
        images=np.arange(len(features)),
        labels=labels,
        num_clusters=int(labels.max()) + 1,
        threshold=threshold,
    )


def _naming(progress: Progress, where: str) -> Progress:
    return lambda what, done, total: progress(f"{where}: {what}", done, total)


def _check_cameras(features: Tensor, camids: npt.ArrayLike) -> Integers:
    cameras = np.asarray(camids)
    if not len(features) or cameras.shape != (len(features),):
        raise ConfigError(
            f"{len(features)} images and cameras of shape {cameras.shape}; clustering needs "
            "images, and one camera for each"
        )
    return cameras.astype(np.int64)


def _smaller_rule(rule: FixedClusters, camid: int | None, num_images: int) -> FixedClusters:
    """Return the rule for fewer images than clusters."""
    smaller = FixedClusters(num_clusters=max(1, num_images // 2))
    logger.warning(
        "%s has %d images, fewer than the %d clusters asked for; it gets %d",
        "the training set" if camid is None else f"camera {camid}",
        num_images,
        rule.num_clusters,
        smaller.num_clusters,
    )
    return smaller


def _final_distances(
    pairs: PairDistances, rerank: RerankConfig | None, plan: MemoryPlan, told: Progress
) -> Distances:
    """Return the distances that are clustered, in the memory of those given."""
    if rerank is not None and pairs.num_queries > 1:
        told("re-ranking", 0, pairs.num_queries)
        room = max(plan.room, 0) + least_rerank_bytes(pairs.num_queries, rerank)
        reranked = rerank_set(pairs, config=rerank, max_bytes=room)
        put_reranked(pairs, reranked, progress=partial(told, "re-ranking"))
    return pairs.condensed


def _doubled(pairs: PairDistances, rerank: RerankConfig | None, plan: MemoryPlan) -> Distances:
    """Return the distances of 2 n points, every image twice (official behaviour).

    Both halves of the asymmetric distances enter, and those of an image and itself.
    """
    count = pairs.num_queries
    every = slice(0, count)
    if rerank is None:
        square = torch.empty(count, count)
        pairs.tile(np.arange(count), every, square)
        matrix = square.neg_().numpy()
    else:
        matrix = rerank_set(pairs, config=rerank).distances(every, every).numpy()
    upper: Distances = np.tile(matrix, (2, 2))[np.triu_indices(2 * count, 1)]
    return upper


def _cut(distances: Distances, rule: ClusterRule, told: Progress) -> tuple[Integers, float | None]:
    """Return labels and the threshold, if there is one."""
    merging = partial(told, "merging")
    if isinstance(rule, FixedClusters):
        return Dendrogram.of(distances, progress=merging).cut_into(rule.num_clusters), None
    if not len(distances):  # a single image
        return np.zeros(1, np.int64), None
    threshold = distance_quantile(distances, rule.share)
    return Dendrogram.of(distances, progress=merging).cut_below(threshold), threshold
