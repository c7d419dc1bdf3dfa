"""What clustering needs in memory, said before it starts.

Legend: N images.
"""

from __future__ import annotations

import torch

from reid_core.evaluation import RerankConfig, rerank_bytes
from reid_core.memory import MemoryPlan
from reid_iics.cluster_distances import num_pairs

__all__ = ["RERANKING", "least_rerank_bytes", "plan_pseudo_labels"]

RERANKING = RerankConfig(k1=20, k2=6, lambda_value=0.3, normalization="min_max")
"""The re-ranking of the published numbers, in both stages."""

# Products while neighbours are sought, at the least (``rerank_set`` takes larger ones if it can).
_LEAST_TILE = {"chunk": 128, "tile": 512}

# Tiles, in float32 and float64; what is noted of a cluster.
_TILE_BYTES = 32 * 2**20
_CLUSTER_BYTES = 512


def plan_pseudo_labels(
    plan: MemoryPlan, num_images: int, *, rerank: RerankConfig | None = RERANKING
) -> None:
    """Add what clustering needs beyond the features to a plan.

    Args:
        plan: To which it is added.
        num_images: N, all images; the largest camera for the clusters of cameras.
        rerank: Settings; None for none.
    """
    remedy = "fewer training images"
    plan.add(
        f"distances of all pairs of {num_images:,} images",
        4 * num_pairs(num_images),
        phase="while clustering",
        remedy=remedy,
    )
    work = {"merging clusters": _CLUSTER_BYTES * num_images}
    if rerank is not None:
        work["re-ranking"] = least_rerank_bytes(num_images, rerank)
    # One of them at a time.
    what = max(work, key=work.__getitem__)
    plan.add(what, work[what] + _TILE_BYTES, phase="while clustering", remedy=remedy)


def least_rerank_bytes(num_images: int, rerank: RerankConfig) -> int:
    """Return what re-ranking needs with the smallest products."""
    return rerank_bytes(num_images, rerank, num_threads=torch.get_num_threads(), **_LEAST_TILE)
