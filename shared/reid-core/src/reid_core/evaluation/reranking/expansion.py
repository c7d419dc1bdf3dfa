"""Query expansion: a query is replaced by an average of itself and its nearest gallery images.

Labels are never used: what is averaged are the images that the search itself finds, wrong ones and
those that a protocol leaves out as junk included.

Legend: Q queries, G gallery images, D embedding size, k images averaged.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from reid_core.errors import ConfigError
from reid_core.evaluation.counting.scorer import InnerProduct
from reid_core.evaluation.counting.scores import gather_rows, in_float64, l2_normalize
from reid_core.evaluation.inputs import check_feature_pair
from reid_core.evaluation.reranking.neighbours import nearest_neighbours

__all__ = ["expand_queries"]

# Queries expanded together; bounds their float64 copy (16 MB at D = 4096).
_BLOCK = 512


def expand_queries(
    query_features: Tensor,
    gallery_features: Tensor,
    k: int = 5,
    alpha: float = 0.0,
    *,
    device: torch.device | None = None,
) -> Tensor:
    """Average every query with its nearest gallery images and scale it to unit length.

    q' = (q + sum_i w_i g_i) / ||...||, over the k gallery images g_i of the highest inner product
    with q, found exactly. ``alpha`` 0, all w_i = 1: average query expansion (Chum et al., "Total
    Recall", ICCV 2007; without its spatial verification). ``alpha`` above 0, w_i =
    max(0, q.g_i)^alpha: alpha query expansion (Radenovic et al., TPAMI 2019, who use 3). The query
    itself always has the weight 1.

    Args:
        query_features: (Q, D) float32 of unit length.
        gallery_features: (G, D) float32 of unit length.
        k: Images averaged; all of the gallery where it is smaller. Few images show the query's
            identity in the data sets of the field, so 5 is our choice; the papers, on buildings,
            use up to 50.
        alpha: Exponent of the weights.
        device: Where products are computed; by default where the query features lie.

    Returns:
        (Q, D) float32 unit vectors on the queries' device, the same on all devices.

    Raises:
        ConfigError: ``k`` is below 1, or ``alpha`` is negative or not finite.
        ProtocolError: As ``check_feature_pair``.
    """
    if not (alpha >= 0 and math.isfinite(alpha)):
        raise ConfigError(f"alpha={alpha} of query expansion; use 0 (plain average) or more")
    query_features, gallery_features = query_features.detach(), gallery_features.detach()
    check_feature_pair(query_features, gallery_features)
    scorer = InnerProduct(query_features, gallery_features, device)
    lists = nearest_neighbours(scorer, k).columns.astype(np.int64)
    expanded = torch.empty_like(query_features)
    for start in range(0, len(lists), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(lists)))
        # The terms are added one by one, nearest first: the same sum on every device.
        total = in_float64(query_features[start : start + _BLOCK])
        for columns in lists[rows].T:
            terms = in_float64(gather_rows(gallery_features, columns))
            if alpha > 0:
                weights = np.maximum(scorer.exact(rows, columns), 0.0) ** alpha
                terms *= torch.from_numpy(weights).to(terms.device)[:, None]
            total += terms.to(total.device)
        expanded[start : start + _BLOCK] = l2_normalize(total)
    return expanded
