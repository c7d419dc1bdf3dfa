"""Evaluation over several processes and machines.

Two ways, with the same result to the last bit as one process:

- Every process can read all features (they are in memory, or in a memory-mapped file on a disk that
  the machines share): each takes a part of the gallery, ``rank_gallery(..., columns=part)`` with
  ``part = own_columns(len(gallery))``.
- Every process holds its own part of the queries and of the gallery, and no machine could hold all
  of them: ``rank_shards``. Queries travel block by block; gallery features never do.

What is exchanged besides are the matches' scores and their counts of rivals, which are integers and
add up to the same in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from reid_core.engine.distributed import broadcast_rows, gather_objects, own_rank
from reid_core.errors import ProtocolError
from reid_core.evaluation.counting.precision import Precision
from reid_core.evaluation.counting.scorer import Metric
from reid_core.evaluation.ranking import Ranking, rank_gallery
from reid_core.evaluation.rules import Labels, Match

__all__ = ["own_columns", "rank_shards"]

# Bytes of query features that all processes hold at one time, besides their own parts.
_BLOCK_BYTES = 2**26


def own_columns(num_gallery: int, rank: int, world_size: int) -> tuple[int, int]:
    """Return this process's part of a gallery that every process can read.

    Args:
        num_gallery: G.
        rank: This process.
        world_size: Number of processes.

    Returns:
        Rows (start, stop); empty where there are fewer images than processes.
    """
    return num_gallery * rank // world_size, num_gallery * (rank + 1) // world_size


def rank_shards(
    query_features: Tensor,
    gallery_features: Tensor,
    query: Labels,
    gallery: Labels,
    match: Match = "standard",
    *,
    metric: Metric = "inner_product",
    identity_cmc: bool = False,
    device: torch.device | None = None,
    precision: Precision = "auto",
) -> Ranking:
    """Do as ``rank_gallery`` where every process of the group holds a part of both lists.

    The whole lists are the parts in order of rank. One process alone holds everything.

    Args:
        query_features: (q, D) float32, this process's queries, on the CPU; may be empty.
        gallery_features: (g, D) float32, this process's gallery images, on the CPU; may be empty.
        query: Labels of the q queries.
        gallery: Labels of the g gallery images.
        match: As in ``rank_gallery``, and so for the other options.
        metric: ``inner_product`` or ``euclidean``.
        identity_cmc: Also rank the query's identity among identities.
        device: Where this process computes products; by default the CPU.
        precision: Of the fast products.

    Returns:
        The ranking of all queries, on every process.

    Raises:
        ProtocolError: Features or labels that cannot be ranked; here or, as ``PeerError``, in
            another process.
    """
    sizes = [len(query_features), len(gallery_features)]
    for name, size, labels in zip(("query", "gallery"), sizes, (query, gallery), strict=True):
        if size != len(labels):
            raise ProtocolError(
                f"{name}: {size} feature rows but labels of {len(labels)} images; both must list "
                "the same images in the same order"
            )
    dims = {len(part) and part.shape[-1] for part in (query_features, gallery_features)} - {0}
    queries, galleries, found = zip(*gather_objects((query, gallery, dims)), strict=True)
    dim = _common_dim(set().union(*found))
    if not len(gallery_features):
        gallery_features = gallery_features.new_empty(0, dim)
    rank = own_rank()
    everything = _concatenate(galleries)
    for name, labels in (("query", _concatenate(queries)), ("gallery", everything)):
        if not len(labels):
            raise ProtocolError(f"the {name} is empty: there is nothing to rank")
    start = sum(len(part) for part in galleries[:rank])
    # The same on every process: each block is an exchange.
    step = max(1, _BLOCK_BYTES // (4 * dim))
    parts = []
    for source, labels in enumerate(queries):
        for first in range(0, len(labels), step):
            rows = np.arange(first, min(first + step, len(labels)))
            own = query_features[rows[0] : rows[-1] + 1] if source == rank else None
            parts.append(
                rank_gallery(
                    broadcast_rows(own, source),
                    gallery_features,
                    labels.take(rows),
                    everything,
                    match,
                    metric=metric,
                    identity_cmc=identity_cmc,
                    device=device,
                    precision=precision,
                    columns=(start, start + len(gallery_features)),
                )
            )
    borders = np.cumsum([0, *(len(part) for part in parts)])
    places = [np.arange(begin, end) for begin, end in pairwise(borders)]
    return Ranking.merge(parts, places)


def _common_dim(dims: set[int]) -> int:
    if len(dims) > 1:
        listed = ", ".join(map(str, sorted(dims)))
        raise ProtocolError(
            f"features of the processes have {listed} dimensions; all must come from the same "
            "network"
        )
    return max(dims, default=1)


def _concatenate(parts: Sequence[Labels]) -> Labels:
    return Labels(
        pids=np.concatenate([part.pids for part in parts]),
        camids=np.concatenate([part.camids for part in parts]),
        clothes_ids=np.concatenate([part.clothes_ids for part in parts]),
    )
