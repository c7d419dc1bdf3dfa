"""Ways to evaluate: ours, a reference that sorts, and libraries that happen to be installed.

Each goes from features in memory to mAP and CMC.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from cost.libraries import (
    run_fast_reid,
    run_oml,
    run_pytorch_metric_learning,
    run_torchmetrics,
    run_torchreid,
)
from cost.problem import MAX_RANK, OURS, Contestant, Integers, Outcome, Problem, Scores
from reid_core.evaluation import rank_gallery

__all__ = ["CONTESTANTS", "rank_by_sorting"]

# Cells whose order is computed at once by the reference.
SORTED_CELLS = 2**22


def run_engine(problem: Problem) -> Outcome:
    """Count, with ``reid_core``: figures of every query, no sorting, no matrix."""
    ranking = rank_gallery(
        problem.query,
        problem.gallery,
        problem.query_labels,
        problem.gallery_labels,
        problem.match,
        device=problem.device,
        precision=problem.precision,
    )
    return Outcome(ranking.mean_ap, ranking.cmc(MAX_RANK), ranking.average_precision)


def run_sorting(problem: Problem) -> Outcome:
    """Sort every row of the score matrix, some rows at a time."""

    def scores(rows: slice) -> Scores:
        block: Scores = torch.mm(problem.query[rows], problem.gallery.T).numpy()
        return block

    return rank_by_sorting(problem, scores)


def rank_by_sorting(problem: Problem, scores: Callable[[slice], Scores]) -> Outcome:
    """Compute the metrics from sorted rows; the definition, in NumPy.

    Args:
        problem: Labels and match rule.
        scores: Gives (R, G) scores of some queries, higher is better.
    """
    query, gallery = problem.query_labels, problem.gallery_labels
    average_precision = np.full(len(query), np.nan)
    first_hit = np.zeros(len(query), dtype=np.int64)
    step = max(1, SORTED_CELLS // len(gallery))
    for start in range(0, len(query), step):
        rows = slice(start, min(start + step, len(query)))
        order = np.argsort(-scores(rows), axis=1)
        same = gallery.pids[order] == query.pids[rows, None]
        matches = same & (gallery.camids[order] != query.camids[rows, None])
        if problem.match == "cloth_changing":
            matches &= gallery.clothes_ids[order] != query.clothes_ids[rows, None]
        # Junk takes no rank.
        ranks: Integers = np.cumsum(matches | ~same, axis=1)
        hits: Integers = np.cumsum(matches, axis=1)
        num_matches = hits[:, -1]
        valid = num_matches > 0
        precisions = np.where(matches, hits / np.maximum(ranks, 1), 0.0)
        average_precision[rows][valid] = precisions.sum(axis=1)[valid] / num_matches[valid]
        best = matches.argmax(axis=1)
        first_hit[rows] = np.where(valid, ranks[np.arange(len(ranks)), best], 0)
    num_valid = int(np.count_nonzero(first_hit))
    at_rank = np.bincount(first_hit[first_hit > 0], minlength=MAX_RANK + 1)[1 : MAX_RANK + 1]
    cmc = np.cumsum(at_rank) / max(1, num_valid)
    return Outcome(float(np.nanmean(average_precision)), cmc, average_precision)


CONTESTANTS = (
    Contestant(
        name=OURS,
        does="counting, no row is sorted, no matrix is kept",
        run=run_engine,
        matches=("standard", "cloth_changing"),
        devices=("cpu", "cuda"),
        mapped=True,
    ),
    Contestant(
        name="full sort",
        does="reference of our own: NumPy argsort of every row, some rows at a time",
        run=run_sorting,
        max_cells=2**26,
        matches=("standard", "cloth_changing"),
    ),
    Contestant(
        name="fast-reid",
        does="evaluate_rank, compiled where Cython is there",
        run=run_fast_reid,
        requires="fastreid",
        max_cells=2**26,
    ),
    Contestant(
        name="torchreid",
        does="evaluate_rank, compiled where Cython is there",
        run=run_torchreid,
        requires="torchreid",
        max_cells=2**26,
    ),
    Contestant(
        name="OML",
        does="search over the whole gallery and metrics",
        run=run_oml,
        requires="oml",
        max_cells=2**26,
    ),
    Contestant(
        name="pytorch-metric-learning",
        does="AccuracyCalculator, k = G; has no camera rule, so its mAP is another",
        run=run_pytorch_metric_learning,
        requires="pytorch_metric_learning",
        max_cells=2**26,
        same_definition=False,
    ),
    Contestant(
        name="torchmetrics",
        does="RetrievalMAP, mAP alone",
        run=run_torchmetrics,
        requires="torchmetrics",
        max_cells=2**25,
    ),
)
