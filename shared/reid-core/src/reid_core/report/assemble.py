"""From evaluations to what a report shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reid_core.data.sample import Sample
from reid_core.evaluation.counting.scores import gather_rows
from reid_core.evaluation.evaluate import ProtocolResult
from reid_core.evaluation.evaluator import Evaluation
from reid_core.evaluation.matches import choose_queries, top_matches
from reid_core.evaluation.protocols.galleries import Search, labels_under, take_rows
from reid_core.evaluation.rules import Indices, Labels
from reid_core.evaluation.search_ranker import take_features
from reid_core.report.markup import FIGURE_NAMES
from reid_core.report.records import (
    APDistribution,
    Citation,
    CmcCurve,
    QueryReason,
    RankedEntry,
    RankedList,
    ResultRow,
    Stage,
)

__all__ = [
    "ap_distributions",
    "cmc_curves",
    "protocol_citations",
    "published_row",
    "ranked_lists",
    "result_row",
]

_TOP = 10
_MAX_JUNK = 3  # enough to see that there is junk; a film of the query would fill the list
_MAX_RANK = 50


def result_row(
    protocol: str, stage: Stage, figures: Mapping[str, Any], variant: str = ""
) -> ResultRow:
    """Return the table row of a protocol's figures.

    Args:
        protocol: Name of the protocol.
        stage: State of the network.
        figures: ``ProtocolResult.summary``, perhaps with ``intervals`` (name to low and high) and
            ``confidence`` (their level in percent).
        variant: What was added to the plain ranking, or which other feature was compared.
    """
    deviations = {name: f"{name}_std" for name in FIGURE_NAMES if f"{name}_std" in figures}
    return ResultRow(
        protocol=protocol,
        stage=stage,
        rank1=figures["rank1"],
        rank5=figures["rank5"],
        rank10=figures["rank10"],
        mean_ap=figures["mAP"],
        mean_inp=figures["mINP"],
        chance_rank1=figures["chance_rank1"],
        num_valid=figures["num_valid"],
        num_queries=figures["num_queries"],
        variant=variant,
        num_trials=figures.get("num_trials", 1),
        deviations={name: figures[key] for name, key in deviations.items()},
        intervals=figures.get("intervals", {}),
        interval_label=f"{figures['confidence']:g} % interval" if "intervals" in figures else "",
        notes=tuple(figures.get("notes", ())),
    )


def published_row(protocol: str, figures: Mapping[str, float], citation: str) -> ResultRow:
    """Return the table row of published figures: ``rank1``, ``mAP``, perhaps ``rank5``."""
    return ResultRow(
        protocol=protocol,
        stage="published",
        rank1=figures.get("rank1"),
        rank5=figures.get("rank5"),
        rank10=figures.get("rank10"),
        mean_ap=figures.get("mAP"),
        mean_inp=figures.get("mINP"),
        source=citation,
    )


def cmc_curves(evaluation: Evaluation, stage: Stage) -> list[CmcCurve]:
    """Return the CMC of every protocol, up to rank 50."""
    return [
        CmcCurve(
            protocol=result.protocol.name,
            stage=stage,
            values=result.cmc(min(_MAX_RANK, result.num_gallery)),
        )
        for result in evaluation.results
    ]


def ap_distributions(evaluation: Evaluation, stage: Stage) -> list[APDistribution]:
    """Return the average precision of all queries (and trials) of every protocol."""
    return [
        APDistribution(
            protocol=result.protocol.name,
            stage=stage,
            values=np.concatenate([ranking.average_precision for ranking in result.trials]),
        )
        for result in evaluation.results
    ]


def ranked_lists(evaluation: Evaluation, *, queries: int, seed: int = 1) -> list[RankedList]:
    """Return ranked lists to look at: half of the hardest queries, half random ones.

    Args:
        evaluation: Features and results; of several draws of a gallery the first is shown.
        queries: Lists per protocol.
        seed: Seed of the random choice.
    """
    lists: list[RankedList] = []
    for result in evaluation.results:
        ranking = result.trials[0]
        hardest = choose_queries(ranking, (queries + 1) // 2, "hardest")
        others = choose_queries(ranking, queries, "random", seed)
        others = others[~np.isin(others, hardest)][: queries // 2]
        lists += _lists_of(evaluation, result, hardest, "hardest")
        lists += _lists_of(evaluation, result, others, "random")
    return lists


def protocol_citations(evaluation: Evaluation) -> list[Citation]:
    """Return the publications of the data sets' protocols, each once."""
    texts = dict.fromkeys(result.protocol.citation for result in evaluation.results)
    return [Citation(text=text) for text in texts if text]


def _lists_of(
    evaluation: Evaluation, result: ProtocolResult, rows: Indices, reason: QueryReason
) -> list[RankedList]:
    """Return the lists of some rows of the first trial's ranking, in their order."""
    ranking = result.trials[0]
    queries = result.query_rows()[rows]
    lists: dict[int, RankedList] = {}
    for search in result.searches[0]:
        own = rows[np.isin(queries, search.queries)]
        for row, (sample, entries) in zip(
            own.tolist(), _heads(evaluation, result, search, result.query_rows()[own]), strict=True
        ):
            lists[row] = RankedList(
                protocol=result.protocol.name,
                query=sample,
                entries=entries,
                average_precision=float(ranking.average_precision[row]),
                reason=reason,
                first_hit_rank=int(ranking.first_hit[row]),
            )
    return [lists[row] for row in rows.tolist()]


def _heads(
    evaluation: Evaluation, result: ProtocolResult, search: Search, queries: Indices
) -> list[tuple[Sample, list[RankedEntry]]]:
    """Return some queries of a search, each with the head of its ranking."""
    if not len(queries):
        return []
    protocol = result.protocol
    query_name, gallery_name = protocol.splits_of_trial(result.numbers[0])
    query_samples, gallery_samples = (
        evaluation.samples[name] for name in (query_name, gallery_name)
    )
    query, gallery = (
        labels_under(protocol, Labels.of(samples)) for samples in (query_samples, gallery_samples)
    )
    heads = top_matches(
        gather_rows(evaluation.features[query_name], queries),
        take_features(evaluation.features[gallery_name], search.gallery),
        query.take(queries),
        take_rows(gallery, search.gallery),
        protocol.match,
        _TOP + _MAX_JUNK,
        max_junk=_MAX_JUNK,
    )
    found = []
    for row, head in zip(queries.tolist(), heads, strict=True):
        ranks = np.cumsum([match.status != "junk" for match in head])
        entries = [
            RankedEntry(
                sample=gallery_samples[search.gallery[match.gallery_row]],
                status=match.status,
                score=match.score,
            )
            for match, rank in zip(head, ranks, strict=True)
            if rank <= _TOP
        ]
        found.append((query_samples[row], entries))
    return found
