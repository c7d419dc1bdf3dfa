"""What single queries contribute to the figures of a protocol, and how certain these are.

Legend: Q queries that have a match in some trial, M figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from reid_core.data.sample import Sample
from reid_core.evaluation.confidence import Interval, bootstrap_intervals
from reid_core.evaluation.protocol_result import ProtocolResult
from reid_core.evaluation.ranking import Ranking
from reid_core.evaluation.rules import Indices, Labels

__all__ = ["FIGURES", "QueryFigures", "Resample", "query_figures", "result_intervals"]

Resample = Literal["queries", "identities"]
"""What a bootstrap draws: queries, or identities with all of their queries."""

FIGURES = ("rank1", "rank5", "rank10", "mAP", "mINP")
"""The M figures, named as in ``Ranking.summary``."""

_RANKS = (1, 5, 10)


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryFigures:
    """The queries of a result, each once.

    Attributes:
        splits: Split of each query.
        rows: (Q,) int64, its row there.
        values: (Q, M) float64, its share in each of ``FIGURES``, mean over the trials in which it
            has a match. Where that is every trial, the means over queries are the figures.
    """

    splits: Sequence[str]
    rows: Indices
    values: npt.NDArray[np.float64]


def query_figures(result: ProtocolResult) -> QueryFigures:
    """Return what each query contributes, queries without any match left out."""
    keys: list[tuple[str, int]] = []
    values = [np.empty((0, len(FIGURES)))]
    for index, ranking in enumerate(result.trials):
        valid = np.flatnonzero(ranking.valid)
        split = result.protocol.splits_of_trial(result.numbers[index])[0]
        keys += [(split, row) for row in result.query_rows(index)[valid].tolist()]
        values.append(_values(ranking)[valid])
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    place_of = np.array([places[key] for key in keys], dtype=np.int64)
    counts = np.bincount(place_of, minlength=len(places))
    sums = [np.bincount(place_of, column, len(places)) for column in np.concatenate(values).T]
    return QueryFigures(
        splits=[split for split, _ in places],
        rows=np.array([row for _, row in places], dtype=np.int64),
        values=np.column_stack(sums) / counts[:, None],
    )


def result_intervals(
    result: ProtocolResult,
    splits: Mapping[str, Sequence[Sample] | Labels],
    *,
    confidence: float,
    resample: Resample = "queries",
    resamples: int = 10_000,
    seed: int = 1,
) -> dict[str, Interval]:
    """Return bootstrap intervals of a result's figures; see ``bootstrap_intervals``.

    Trials are not resampled: a query counts with its mean over them.

    Args:
        result: The result.
        splits: Split name to samples or labels, as it was made from.
        confidence: Level in percent.
        resample: What is drawn.
        resamples: Number of resamples.
        seed: Seed.

    Returns:
        ``FIGURES`` to intervals; empty where no query has a match.

    Raises:
        ConfigError: ``confidence`` or ``resamples`` is out of range.
    """
    figures = query_figures(result)
    if not len(figures.rows):
        return {}
    groups = None
    if resample == "identities":
        pids = {name: Labels.of(splits[name]).pids for name in dict.fromkeys(figures.splits)}
        pairs = zip(figures.splits, figures.rows, strict=True)
        groups = np.array([pids[split][row] for split, row in pairs])
    intervals = bootstrap_intervals(
        figures.values, confidence=confidence, resamples=resamples, seed=seed, groups=groups
    )
    return dict(zip(FIGURES, intervals, strict=True))


def _values(ranking: Ranking) -> npt.NDArray[np.float64]:
    """Return (queries, M): hits within ranks 1, 5 and 10, AP, INP; NaN without a match."""
    ranks = ranking.first_hit if ranking.first_identity is None else ranking.first_identity
    hits = [np.where(ranking.valid, ranks <= k, np.nan) for k in _RANKS]
    return np.column_stack([*hits, ranking.average_precision, ranking.inverse_negative_penalty])
