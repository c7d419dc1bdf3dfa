"""What an evaluation under a protocol found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_core.evaluation.protocols.definition import Protocol
from reid_core.evaluation.protocols.galleries import Search
from reid_core.evaluation.ranking import Ranking
from reid_core.evaluation.rules import Indices

__all__ = ["ProtocolResult"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ProtocolResult:
    """Results of one network under one protocol.

    Attributes:
        protocol: The protocol.
        trials: One ranking per trial; a single one where nothing is drawn. Its rows are those of
            ``query_rows``.
        searches: Per trial, who searched whom.
        numbers: Number of each trial, from 0.
        num_gallery: Gallery images of a trial (of the largest, where they differ).
        scoring: What images were ranked by, in words.
        remarks: What else has to be known of the figures, in sentences.
    """

    protocol: Protocol
    trials: tuple[Ranking, ...]
    searches: tuple[tuple[Search, ...], ...]
    numbers: tuple[int, ...]
    num_gallery: int
    scoring: str
    remarks: tuple[str, ...] = ()

    def query_rows(self, index: int = 0) -> Indices:
        """Return the rows of the query's split, ascending, that a trial's ranking stands for.

        Args:
            index: Position in ``trials``.
        """
        return np.sort(np.concatenate([search.queries for search in self.searches[index]]))

    def cmc(self, max_rank: int) -> npt.NDArray[np.float64]:
        """Return the cumulative matching characteristic, (max_rank,), mean over the trials."""
        curve: npt.NDArray[np.float64] = np.mean(
            [ranking.cmc(max_rank) for ranking in self.trials], axis=0
        )
        return curve

    def notes(self) -> tuple[str, ...]:
        """Return what has to be known of the figures, in sentences."""
        notes = [*self.remarks]
        num_queries = sum(len(ranking) for ranking in self.trials)
        num_missing = num_queries - sum(ranking.num_valid for ranking in self.trials)
        if num_missing:
            times = len(self.trials)
            over = (
                f" (mean over {times} trials)" if num_missing % times or num_queries % times else ""
            )
            notes.append(
                f"{num_missing / times:,.5g} of {num_queries / times:,.5g} queries{over} have no "
                "match in the gallery; they are counted here, and left out of all means"
            )
        if self.protocol.trial_lists and len(self.trials) < self.protocol.trials:
            numbers = ", ".join(str(number + 1) for number in self.numbers)
            notes.append(
                f"evaluated on list {numbers} of {self.protocol.trials}; published figures are "
                "means over all, each with its own network"
            )
        return tuple(notes)

    def summary(self) -> dict[str, Any]:
        """Return the figures, ready for JSON; shares are fractions in [0, 1].

        Those of ``Ranking.summary``, as means over the trials, with ``<name>_std`` (divisor: the
        number of trials) where there are several; the counts (means, where trials differ),
        ``num_gallery``, ``num_trials``; the protocol's name and definition, the scoring, and
        ``notes`` where there are any.
        """
        summary: dict[str, Any] = {
            "protocol": self.protocol.name,
            "definition": self.protocol.definition,
            "scoring": self.scoring,
        }
        figures = [ranking.summary() for ranking in self.trials]
        for name, first in figures[0].items():
            values = [figure[name] for figure in figures]
            is_count = name.startswith("num_")
            summary[name] = first if is_count and len({*values}) == 1 else float(np.mean(values))
            if len(values) > 1 and not is_count and not name.startswith("chance_"):
                # NumPy's mean of equal values may be another one, by the last digit.
                summary[f"{name}_std"] = float(np.std(values)) if len({*values}) > 1 else 0.0
        notes = {"notes": list(self.notes())} if self.notes() else {}
        counts = {"num_gallery": self.num_gallery, "num_trials": len(self.trials)}
        return {**summary, **counts, **notes}
