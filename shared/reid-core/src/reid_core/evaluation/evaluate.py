"""From features to the figures of a protocol."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from reid_core.data.sample import Sample
from reid_core.errors import ProtocolError
from reid_core.evaluation.counting.precision import Precision
from reid_core.evaluation.counting.scorer import Metric
from reid_core.evaluation.inputs import check_inputs
from reid_core.evaluation.protocol_result import ProtocolResult
from reid_core.evaluation.protocols.applicability import applicable
from reid_core.evaluation.protocols.definition import Protocol
from reid_core.evaluation.protocols.galleries import Search, labels_under, plan_searches
from reid_core.evaluation.protocols.permutations import Permutations
from reid_core.evaluation.ranking import Ranking
from reid_core.evaluation.reranking.config import RerankConfig
from reid_core.evaluation.rules import Indices, Labels
from reid_core.evaluation.search_ranker import SearchRanker

__all__ = ["ProtocolResult", "evaluate_protocol"]

logger = logging.getLogger(__name__)

# Unit vectors kept in half precision still pass.
_LENGTH_TOLERANCE = 1e-2

# Features whose length is looked at: enough to find out that lengths vary at all.
_NUM_SAMPLED = 4096


def evaluate_protocol(
    protocol: Protocol,
    splits: Mapping[str, Sequence[Sample] | Labels],
    features: Mapping[str, Tensor],
    *,
    trials: Sequence[int] | None = None,
    permutations: Permutations | None = None,
    metric: Metric = "inner_product",
    precision: Precision = "auto",
    device: torch.device | None = None,
    columns: tuple[int, int] | None = None,
    rerank: RerankConfig | None = None,
    expand: int = 0,
    memory_limit: int | None = None,
    means_cosine: bool = True,
) -> ProtocolResult:
    """Evaluate features under a protocol.

    Args:
        protocol: The protocol.
        splits: Split name to samples, e.g. ``ReIDDataset.splits``, or to labels.
        features: Split name to (N, D) float32, one row per sample in the split's order, of unit
            length as ``extract_features`` returns them (``l2_normalize`` for any others).
        trials: Numbers of the trials to evaluate, from 0; by default all, or those whose lists are
            at hand where each has its own.
        permutations: The table of the data set's authors, for ``sysu/..._official``.
        metric: ``inner_product`` or ``euclidean``.
        precision: Of the fast products; changes the time, not the result.
        device: Where products are computed; by default where the features lie.
        columns: In a process group: the rows (start, stop) of the gallery's split that its features
            hold, while ``splits`` names all of it; see ``rank_gallery``.
        rerank: Re-rank by k-reciprocal neighbours among the queries and gallery images of each
            search (of each draw, and of each group of queries that do not see all cameras).
            Distances are Euclidean then, whatever the metric.
        expand: Gallery images, of each search, that are averaged into every query beforehand
            (``expand_queries``).
        memory_limit: Bytes that re-ranking may use beyond the features.
        means_cosine: Warn where inner products do not rank as cosines would.

    Returns:
        The results; all 0, with ``num_valid`` 0, where no query has a match.

    Raises:
        ProtocolError: Splits, labels or features do not allow it; the message says which.
        ConfigError: Unknown metric or precision.
        MemoryLimitError: Re-ranking needs more memory.
        PeerError: Another process has stopped.
    """
    problem = applicable(protocol, splits).problem
    if problem:
        raise ProtocolError(problem)
    numbers = _chosen_trials(protocol, splits, trials)
    _check_columns(protocol, columns, is_whole_needed=rerank is not None or expand > 0)
    rank = SearchRanker(
        protocol=protocol,
        metric=metric,
        precision=precision,
        device=device,
        columns=columns,
        rerank=rerank,
        expand=expand,
        memory_limit=memory_limit,
    )
    rankings, searches, compared = [], [], set[str]()
    for number in numbers:
        names = protocol.splits_of_trial(number)
        query, gallery = (labels_under(protocol, Labels.of(splits[name])) for name in names)
        sides = (*_features_of(protocol, names, features), query, gallery)
        plan = plan_searches(protocol, query, gallery, number, permutations)
        _check(sides, plan, columns)
        parts = [rank(search, *sides) for search in plan]
        rankings.append(Ranking.merge(parts, _places(plan)))
        searches.append(plan)
        if metric == "inner_product" and means_cosine and names[1] not in compared:
            _warn_unless_alike(names[1], features[names[1]])
            compared.add(names[1])
    return ProtocolResult(
        protocol=protocol,
        trials=tuple(rankings),
        searches=tuple(searches),
        numbers=numbers,
        num_gallery=max(map(_num_searched, searches)),
        scoring=rank.scoring,
    )


def _chosen_trials(
    protocol: Protocol,
    splits: Mapping[str, Sequence[Sample] | Labels],
    trials: Sequence[int] | None,
) -> tuple[int, ...]:
    at_hand = protocol.trials_in(splits)
    if trials is None:
        return at_hand
    strange = [trial for trial in trials if trial not in at_hand]
    if strange or not trials:
        raise ProtocolError(
            f"{protocol.name} has the trials {', '.join(map(str, at_hand))}, not "
            f"{', '.join(map(str, strange)) or 'none'}"
        )
    return tuple(trials)


def _features_of(
    protocol: Protocol, names: tuple[str, str], features: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    for name in names:
        if name not in features:
            present = ", ".join(features) or "none"
            raise ProtocolError(
                f"{protocol.name} needs features of the split {name!r} (features of: {present})"
            )
    query, gallery = names
    return features[query], features[gallery]


def _check_columns(
    protocol: Protocol, columns: tuple[int, int] | None, *, is_whole_needed: bool
) -> None:
    if columns is None:
        return
    if protocol.query == protocol.gallery:
        raise ProtocolError(
            f"{protocol.name} takes queries and gallery from one split, {protocol.gallery!r}; its "
            "features cannot be a part of the gallery alone, so give all of them"
        )
    if is_whole_needed:
        raise ProtocolError(
            "re-ranking and query expansion look at the whole gallery, so its features cannot be a "
            "part of them; give all of them"
        )


def _check(
    sides: tuple[Tensor, Tensor, Labels, Labels],
    plan: Sequence[Search],
    columns: tuple[int, int] | None,
) -> None:
    """Check features from which some are chosen; all others are checked when they are ranked."""
    query_features, gallery_features, query, gallery = sides
    chooses = len(plan) > 1 or (len(plan[0].queries), len(plan[0].gallery)) != (
        len(query),
        len(gallery),
    )
    if columns is not None:
        gallery = gallery.take(np.arange(*columns))
        if not len(gallery):
            return
    fits = (len(query_features), len(gallery_features)) == (len(query), len(gallery))
    if chooses or not fits:
        check_inputs(query_features, gallery_features, query, gallery)


def _warn_unless_alike(split: str, features: Tensor) -> None:
    """Warn where inner products do not rank as cosines do: gallery images differ in length."""
    sample = features[:: -(-len(features) // _NUM_SAMPLED) or 1].detach()
    if not len(sample):
        return
    norms = torch.linalg.vector_norm(sample, dim=1)
    shortest, longest = norms.min().item(), norms.max().item()
    if longest - shortest > _LENGTH_TOLERANCE * longest:
        logger.warning(
            "features of %r have lengths from %.3g to %.3g: images are ranked by inner product, "
            "which is not the cosine then; use l2_normalize, unless shorter ones lack a part",
            split,
            shortest,
            longest,
        )


def _places(plan: Sequence[Search]) -> list[Indices]:
    """Return where the queries of each search stand among all queries, by row."""
    every = np.sort(np.concatenate([search.queries for search in plan]))
    return [np.searchsorted(every, search.queries) for search in plan]


def _num_searched(plan: Sequence[Search]) -> int:
    if len(plan) == 1:
        return len(plan[0].gallery)
    return len(np.unique(np.concatenate([search.gallery for search in plan])))
