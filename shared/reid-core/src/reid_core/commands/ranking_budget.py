"""What ranking will hold in memory, for the comparison before a command starts its work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from reid_core.engine.distributed import World
from reid_core.evaluation.protocols.definition import Protocol
from reid_core.evaluation.ranking import ranking_bytes
from reid_core.evaluation.reranking.config import RerankConfig
from reid_core.evaluation.reranking.neighbours import neighbours_bytes
from reid_core.evaluation.reranking.reranked import rerank_bytes
from reid_core.memory import MemoryPlan

__all__ = ["add_ranking", "open_plan", "rerank_limit"]

# Phases of the work; what they hold is not there at the same time.
_RANKING, _RERANKING = "while ranking", "while re-ranking"

_NEIGHBOURS = "neighbours of all images, at least"


def open_plan(work: str, limit: str | None, device: torch.device, world: World) -> MemoryPlan:
    """Start the account of this process with what it holds now.

    Args:
        work: What is going to happen, e.g. ``evaluation``.
        limit: What ``--memory-limit`` says.
        device: Device of the process; CUDA's own memory on the host is made to count.
        world: This process; those on one machine share its memory.

    Raises:
        MemoryLimitError: The limit is too small for any work.
        ConfigError: The limit is no size.
    """
    if device.type == "cuda":
        torch.zeros(1, device=device)
    plan = MemoryPlan(limit, processes=world.local_world_size)
    plan.require(work)
    return plan


def add_ranking(
    plan: MemoryPlan,
    cases: Sequence[tuple[Protocol, Mapping[str, int]]],
    dim: int,
    *,
    rerank: RerankConfig | None = None,
    expand: int = 0,
) -> None:
    """Add what ranking needs beyond the features, of the case that needs most.

    Args:
        plan: The account.
        cases: Protocols, each with the number of images of its splits.
        dim: D, numbers per image.
        rerank: Settings of re-ranking, where that is evaluated too.
        expand: Gallery images of query expansion, where that is evaluated too.
    """
    searches = [
        _search_bytes(protocol, counts, trial, dim, rerank, expand)
        for protocol, counts in cases
        for trial in protocol.trials_in(counts)
    ]
    phases = (_RANKING,) if rerank is None else (_RANKING, _RERANKING)
    for phase in phases:
        plan.add("comparison of all images", max(item.ranking for item in searches), phase=phase)
        copied = max(item.copied for item in searches)
        if copied:
            plan.add("features of chosen images, at most", copied, phase=phase)
    if expand:
        expansion = max(item.expansion for item in searches)
        plan.add("query expansion", expansion, phase=_RANKING, remedy="no --expand")
    if rerank is not None:
        least = max(item.reranking for item in searches)
        plan.add(_NEIGHBOURS, least, phase=_RERANKING, remedy="no --rerank")


def rerank_limit(plan: MemoryPlan) -> int:
    """Return what re-ranking may use beyond the features; larger products use up to that."""
    least = sum(part.num_bytes for part in plan.parts if part.what == _NEIGHBOURS)
    return least + plan.room_during(_RERANKING)


def _selects_images(protocol: Protocol) -> bool:
    """Tell whether a protocol leaves images of its splits out, so that features are copied."""
    return (
        {protocol.query_draw, protocol.gallery_draw} != {"all"}
        or bool(protocol.hidden)
        or protocol.query_modality is not None
        or protocol.gallery_modality is not None
        or protocol.query_cameras is not None
        or protocol.gallery_cameras is not None
    )


class _SearchBytes(NamedTuple):
    """What a search needs beyond features and labels."""

    ranking: int
    copied: int
    reranking: int
    expansion: int


def _search_bytes(
    protocol: Protocol,
    counts: Mapping[str, int],
    trial: int,
    dim: int,
    rerank: RerankConfig | None,
    expand: int,
) -> _SearchBytes:
    query, gallery = (counts[name] for name in protocol.splits_of_trial(trial))
    threads = torch.get_num_threads()
    expanded = 4 * query * dim + neighbours_bytes(query, expand, num_threads=threads)
    return _SearchBytes(
        ranking=ranking_bytes(query, gallery, dim, threads),
        copied=4 * dim * (query + gallery) if _selects_images(protocol) else 0,
        reranking=0
        if rerank is None
        else rerank_bytes(query + gallery, rerank, chunk=128, tile=512, num_threads=threads),
        expansion=expanded if expand else 0,
    )
