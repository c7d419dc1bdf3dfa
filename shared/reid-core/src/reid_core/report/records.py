"""What a report shows: plain records, filled by the commands, without torch."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from reid_core.data.sample import Sample
from reid_core.evaluation.rules import MatchStatus

__all__ = [
    "APDistribution",
    "Citation",
    "CmcCurve",
    "MatchStatus",
    "QueryReason",
    "RankedEntry",
    "RankedList",
    "Report",
    "ResultRow",
    "Stage",
    "read_metrics",
]

Stage = Literal["untrained", "trained", "evaluated", "published"]
QueryReason = Literal["hardest", "random"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """The results of one network state under one protocol.

    All scores are fractions in [0, 1]; None (or NaN) where a figure is not known, shown as a dash.

    Attributes:
        protocol: Protocol name, e.g. ``ltcc/cloth_changing``.
        stage: ``untrained`` and ``trained`` within a training run, ``evaluated`` for given weights,
            ``published`` for the figures of the paper.
        rank1: Share of valid queries with a right match at rank 1.
        rank5: The same within the first 5 ranks.
        rank10: The same within the first 10 ranks.
        mean_ap: Mean average precision.
        mean_inp: Mean inverse negative penalty.
        chance_rank1: Rank-1 expected from a random ranking.
        num_valid: Queries with at least one right match in the gallery; a mean where trials differ.
        num_queries: All queries of the protocol; a mean where trials differ.
        source: Where the figures come from; for a published row its citation.
        variant: What was added to the plain ranking, e.g. ``re-ranking``, or which other feature of
            the network was compared, e.g. ``pool feature``; empty for neither.
        num_trials: Draws or lists that the figures are means over.
        deviations: Standard deviations of figures over the trials, by the names ``rank1``,
            ``rank5``, ``rank10``, ``mAP`` and ``mINP``; empty where there is one trial.
        intervals: Bootstrap intervals (low, high) of figures, by the names ``rank1``, ``rank5``,
            ``rank10``, ``mAP`` and ``mINP``.
        interval_label: What the intervals are, e.g. ``95 % interval``.
        notes: What has to be known of the figures, in sentences.
    """

    protocol: str
    stage: Stage
    rank1: float | None = None
    rank5: float | None = None
    rank10: float | None = None
    mean_ap: float | None = None
    mean_inp: float | None = None
    chance_rank1: float | None = None
    num_valid: float | None = None
    num_queries: float | None = None
    source: str = ""
    variant: str = ""
    num_trials: int = 1
    deviations: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    interval_label: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rank1", "rank5", "rank10", "mean_ap", "mean_inp", "chance_rank1"):
            value = getattr(self, name)
            if value is not None and not math.isnan(value) and not 0 <= value <= 1:
                raise ValueError(f"{name}={value} is not in [0, 1]; pass fractions, not percent.")


@dataclass(frozen=True, kw_only=True)
class RankedEntry:
    """One gallery image in a ranked list.

    Attributes:
        sample: The gallery image with its labels.
        status: ``right`` (the query's identity), ``wrong`` (another one), or ``junk`` (left out by
            the protocol; takes no rank).
        score: Similarity to the query; higher is more alike.
    """

    sample: Sample
    status: MatchStatus
    score: float


@dataclass(frozen=True, kw_only=True)
class RankedList:
    """A query and the first entries of its ranking.

    Attributes:
        protocol: Protocol name.
        query: The query image with its labels.
        entries: Best first, from the very top, junk included where it falls.
        average_precision: AP of this query, in [0, 1].
        reason: Why this query is shown.
        first_hit_rank: 1-based rank of the first right match, junk not counted; None if unknown.
    """

    protocol: str
    query: Sample
    entries: Sequence[RankedEntry]
    average_precision: float
    reason: QueryReason
    first_hit_rank: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class CmcCurve:
    """A cumulative matching characteristic.

    Attributes:
        protocol: Protocol name.
        stage: Network state.
        values: (R,) floats in [0, 1]; ``values[k - 1]`` is the rank-k score.
    """

    protocol: str
    stage: Stage
    values: npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class APDistribution:
    """The average precision of every valid query.

    Attributes:
        protocol: Protocol name.
        stage: Network state.
        values: (Q,) floats in [0, 1], in any order.
    """

    protocol: str
    stage: Stage
    values: npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Citation:
    """A reference; linked when ``url`` starts with ``https://`` or ``http://``."""

    text: str
    url: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """Everything on the page, in the page's order. What is empty is left out.

    Attributes:
        title: Heading, e.g. the run's name.
        subtitle: One line below it.
        method: Method, e.g. ``AIM``.
        dataset: Data set, e.g. ``LTCC``.
        synthetic: True where the images were generated; then marked all over the page.
        facts: Label to text: date, preset, duration, device, versions. Shown in this order.
        rows: The results table; rows of one protocol are grouped in the order given.
        metrics: Records of ``metrics.jsonl`` (see ``read_metrics``): ``kind`` is ``train`` (numbers
            of one epoch, by name), ``eval`` (``results``: protocol to ``rank1`` and ``mAP``, in
            [0, 1]) or ``clusters`` (of one ``cycle``, see ``clusters_section``); ``epoch`` counts
            from 0, and -1 is the state before the first. The page counts finished epochs.
        curves: CMC curves.
        distributions: Average precision per query.
        ranked: Ranked lists, grouped by protocol and reason in the order given.
        config: The run's configuration, nested mappings of plain values.
        command: Exact command line that reproduces the run.
        definitions: Protocol name to its definition.
        citations: References.
    """

    title: str
    method: str
    dataset: str
    synthetic: bool
    rows: Sequence[ResultRow]
    subtitle: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = ()
    curves: Sequence[CmcCurve] = ()
    distributions: Sequence[APDistribution] = ()
    ranked: Sequence[RankedList] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    definitions: Mapping[str, str] = field(default_factory=dict)
    citations: Sequence[Citation] = ()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the records of a run's ``metrics.jsonl``.

    Args:
        path: The file; one JSON object per line.

    Returns:
        The records in file order. Empty where the run has logged nothing yet (no file). Lines that
        hold no JSON object, such as the half-written last line of a killed run, are left out with
        one warning.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    records: list[dict[str, Any]] = []
    num_bad = 0
    for line in filter(None, map(str.strip, lines)):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            num_bad += 1
    if num_bad:
        logger.warning("%s: %d line(s) hold no JSON object and were left out", path, num_bad)
    return records
