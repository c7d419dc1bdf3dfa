"""From candidates to exact neighbour lists.

Legend: Q rows, G columns, k neighbours, M candidates per row, R rows of a block.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid_core.evaluation.counting.scorer import Scorer
from reid_core.evaluation.counting.scores import Scores
from reid_core.evaluation.reranking.candidates import Candidates
from reid_core.evaluation.reranking.image_set import SymmetricScorer
from reid_core.evaluation.rules import Indices

__all__ = ["BLOCK_BYTES", "NeighbourLists", "Neighbours"]

logger = logging.getLogger(__name__)

# Rows that are put in order together.
_BLOCK_ROWS = 4096

# Float64 scores that a renewed search holds, and columns of its products.
_PRECISE_CELLS = 2**22
_PRECISE_COLUMNS = 1024

BLOCK_BYTES = 8 * _PRECISE_CELLS + 64 * 32 * _BLOCK_ROWS
"""Memory of the blocks that lists are made in, about."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Neighbour lists.

    Attributes:
        columns: (Q, k) int32, nearest first; k is at most G.
        highest: (Q,) float64 exact score of the first neighbour.
        lowest: (Q,) float64, the lowest exact score of the row.
    """

    columns: npt.NDArray[np.int32]
    highest: Scores
    lowest: Scores


class NeighbourLists:
    """Puts candidates in the order of their exact scores.

    Args:
        scorer: The scores.
        k: Neighbours per row, at most G.
        owner: The same scorer, where rows and columns are the same images; else None.
    """

    def __init__(self, scorer: Scorer, k: int, owner: SymmetricScorer | None) -> None:
        self._scorer = scorer
        self._k = k
        self._owner = owner
        count = scorer.num_queries
        self._lists = Neighbours(
            columns=np.empty((count, k), np.int32), highest=np.empty(count), lowest=np.empty(count)
        )

    def settle(self, high: Candidates, low: Candidates) -> Neighbours:
        """Return the lists.

        Args:
            high: More than k candidates of the highest score (or all images).
            low: Two or more of the lowest.
        """
        count = self._scorer.num_queries
        unsure = []
        for start in range(0, count, _BLOCK_ROWS):
            rows = np.arange(start, min(start + _BLOCK_ROWS, count))
            unsure.append(rows[~(self._order(rows, high) & self._find_lowest(rows, low))])
        self._search_again(np.concatenate(unsure))
        return self._lists

    def _order(self, rows: Indices, candidates: Candidates) -> npt.NDArray[np.bool_]:
        """Fill in the lists of some rows; returns (R,), False where they cannot be relied on."""
        tolerance = self._scorer.tolerance[rows, None]
        fast, columns = _taken(candidates, rows)
        with np.errstate(invalid="ignore"):  # infinite scores, which are not finite below
            # Candidates whose scores are near each other form a cluster, which keeps its places.
            apart = fast[:, :-1] - fast[:, 1:] > 2 * tolerance
            is_enough = fast[:, self._k - 1] - fast[:, -1] > 2 * tolerance[:, 0]
        is_enough |= fast.shape[1] == self._scorer.num_gallery
        is_enough &= np.isfinite(tolerance[:, 0]) & np.isfinite(fast).all(axis=1)
        edge = np.zeros((len(rows), 1), np.bool_)
        clusters = np.cumsum(np.concatenate([edge, apart], axis=1), axis=1)
        is_near = np.concatenate([edge, ~apart], axis=1) | np.concatenate([~apart, edge], axis=1)
        is_near &= clusters <= clusters[:, self._k - 1, None]
        mixed = np.flatnonzero(is_near.any(axis=1) & is_enough)
        is_near[:, 0] = True  # The highest score is wanted, and tests the fast ones.
        scores, is_right = self._with_exact(rows, fast, columns, is_near & is_enough[:, None])
        is_other = self._is_other(rows[mixed, None], columns[mixed])
        order = np.lexsort((columns[mixed], is_other, -scores[mixed], clusters[mixed]), axis=1)
        for values in (scores, columns):
            values[mixed] = np.take_along_axis(values[mixed], order, axis=1)
        self._lists.columns[rows] = columns[:, : self._k]
        self._lists.highest[rows] = scores[:, 0]
        is_right &= is_enough
        return is_right

    def _find_lowest(self, rows: Indices, candidates: Candidates) -> npt.NDArray[np.bool_]:
        """Fill in the lowest scores of some rows; returns as ``_order``."""
        tolerance = self._scorer.tolerance[rows, None]
        fast, columns = _taken(candidates, rows)
        with np.errstate(invalid="ignore"):
            is_near = fast - fast[:, :1] <= 2 * tolerance
        is_enough = ~is_near[:, -1] | (fast.shape[1] == self._scorer.num_gallery)
        is_enough &= np.isfinite(tolerance[:, 0]) & np.isfinite(fast).all(axis=1)
        is_near &= is_enough[:, None]
        scores, is_right = self._with_exact(rows, fast, columns, is_near)
        self._lists.lowest[rows] = np.where(is_near, scores, np.inf).min(axis=1)
        is_right &= is_enough
        return is_right

    def _with_exact(
        self, rows: Indices, fast: Scores, columns: Indices, wanted: npt.NDArray[np.bool_]
    ) -> tuple[Scores, npt.NDArray[np.bool_]]:
        """Replace some of (R, M) fast scores by exact ones.

        Returns:
            The scores, and (R,) False where fast ones were not as near as they were taken to be.
        """
        row_places, places = np.nonzero(wanted)
        exact = self._scorer.exact(rows[row_places], columns[row_places, places])
        errors = np.abs(exact - fast[row_places, places])
        is_right = np.ones(len(rows), dtype=np.bool_)
        is_right[row_places[errors > self._scorer.tolerance[rows[row_places]]]] = False
        scores = fast.copy()
        scores[row_places, places] = exact
        return scores, is_right

    def _is_other(self, rows: Indices, columns: Indices) -> npt.NDArray[np.bool_]:
        """Tell which images are not the row's own one."""
        is_other: npt.NDArray[np.bool_] = (columns != rows) | (self._owner is None)
        return is_other

    def _search_again(self, rows: Indices) -> None:
        """Fill in rows for which fast scores do not do, from float64 scores of all columns."""
        if not len(rows):
            return
        total = self._scorer.num_gallery
        if len(rows) > max(_BLOCK_ROWS, self._scorer.num_queries // 4):
            logger.warning(
                "%d of %d images have too many others at nearly the same score for fast products "
                "to tell their neighbours; exact ones take long. Has the network collapsed?",
                len(rows),
                self._scorer.num_queries,
            )
        twins = np.arange(total) if self._owner is None else self._owner.twins()
        step = max(1, _PRECISE_CELLS // total)
        for start in range(0, len(rows), step):
            block_rows = rows[start : start + step]
            block = np.empty((len(block_rows), total))
            for first in range(0, total, _PRECISE_COLUMNS):
                columns = np.arange(first, min(first + _PRECISE_COLUMNS, total))
                block[:, columns] = self._scorer.precise(block_rows, columns)
            for row, scores in zip(block_rows, block, strict=True):
                self._list_precisely(int(row), scores, twins)

    def _list_precisely(self, row: int, scores: Scores, twins: Indices) -> None:
        """Fill in one row from its (G,) float64 scores."""
        window = 2 * self._scorer.precise_tolerance[row]
        place = len(scores) - self._k
        columns = np.flatnonzero(scores >= np.partition(scores, place)[place] - window)
        # Of images that are all alike only as many as can be listed are looked at.
        is_listed = _first_of_each(twins[columns], self._k)
        columns = columns[is_listed | ~self._is_other(np.array(row), columns)]
        exact = self._scorer.exact(np.full(len(columns), row), columns)
        order = np.lexsort((columns, self._is_other(np.array(row), columns), -exact))[: self._k]
        self._lists.columns[row] = columns[order]
        self._lists.highest[row] = exact[order[0]]
        columns = np.flatnonzero(scores <= scores.min() + window)
        columns = columns[_first_of_each(twins[columns], 1)]
        self._lists.lowest[row] = self._scorer.exact(np.full(len(columns), row), columns).min()


def _taken(candidates: Candidates, rows: Indices) -> tuple[Scores, Indices]:
    part = slice(rows[0], rows[-1] + 1)
    return (
        candidates.scores[part].cpu().double().numpy(),
        candidates.columns[part].cpu().long().numpy(),
    )


def _first_of_each(labels: Indices, count: int) -> npt.NDArray[np.bool_]:
    """Tell which entries are among the first ``count`` of their label."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    places = np.arange(len(labels)) - np.searchsorted(ordered, ordered, side="left")
    found = np.empty(len(labels), dtype=np.bool_)
    found[order] = places < count
    return found
