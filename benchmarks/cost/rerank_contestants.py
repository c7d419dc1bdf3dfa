"""k-reciprocal re-ranking: ours, and a dense reference written from the definition."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from cost.contestants import rank_by_sorting
from cost.problem import MAX_RANK, OURS, Contestant, Integers, Outcome, Problem, Scores
from reid_core.evaluation import rank_scores
from reid_core.evaluation.reranking.config import RerankConfig
from reid_core.evaluation.reranking.reranked import rerank

__all__ = ["CONTESTANTS", "dense_encodings"]

# Rows that the reference sorts or averages at once.
ROWS = 256

CONFIG = RerankConfig()


def run_engine(problem: Problem) -> Outcome:
    """Re-rank sparsely and count, with ``reid_core``."""
    scores = rerank(problem.query, problem.gallery, CONFIG, device=problem.device)
    ranking = rank_scores(scores, problem.query_labels, problem.gallery_labels, problem.match)
    return Outcome(ranking.mean_ap, ranking.cmc(MAX_RANK), ranking.average_precision)


def run_dense(problem: Problem) -> Outcome:
    """Re-rank with N x N arrays in float32 and sort the rows of the result."""
    distances = dense_distances(problem)
    return rank_by_sorting(problem, lambda rows: -distances[rows])


def dense_distances(problem: Problem) -> Scores:
    """Return the re-ranked distances, (Q, G) float32 (Zhong et al., CVPR 2017).

    Distances are squared Euclidean ones, divided by the largest of their row.
    """
    assert problem.images is not None
    num_queries = len(problem.query)
    distances: Scores = torch.mm(problem.images, problem.images.T).numpy()
    distances *= -2
    distances += 2
    np.fill_diagonal(distances, 0)
    distances /= distances.max(axis=1, keepdims=True)
    weights = dense_encodings(distances)
    final = distances[:num_queries, num_queries:].copy()
    final *= CONFIG.lambda_value
    final += (1 - CONFIG.lambda_value) * _jaccard_distances(weights, num_queries)
    return final


def dense_encodings(distances: Scores) -> Scores:
    """Return the averaged weights of the expanded reciprocal neighbours, (N, N); rows sum to 1."""
    nearest = _nearest(distances, CONFIG.k1 + 1)
    weights = _encodings(distances, nearest)
    if CONFIG.k2 == 1:
        return weights
    averaged = np.empty_like(weights)
    for start in range(0, len(weights), ROWS):
        rows = slice(start, start + ROWS)
        averaged[rows] = weights[nearest[rows, : CONFIG.k2]].mean(axis=1)
    return averaged


def _nearest(distances: Scores, count: int) -> Integers:
    """Return the first entries of every row's order."""
    nearest = np.empty((len(distances), min(count, len(distances))), dtype=np.int64)
    for start in range(0, len(distances), ROWS):
        rows = slice(start, start + ROWS)
        nearest[rows] = np.argsort(distances[rows], axis=1)[:, :count]
    return nearest


def _encodings(distances: Scores, nearest: Integers) -> Scores:
    """Return weights of the expanded reciprocal neighbours, (N, N); a row sums to 1."""
    reciprocal = _reciprocal(nearest)
    halves = _reciprocal(nearest[:, : CONFIG.half_k1 + 1])
    weights = np.zeros_like(distances)
    for image, members in enumerate(reciprocal):
        expanded = [members]
        for member in members:
            adopted = halves[member]
            if 3 * len(np.intersect1d(adopted, members)) > 2 * len(adopted):
                expanded.append(adopted)
        columns = np.unique(np.concatenate(expanded))
        gauss = np.exp(-distances[image, columns])
        weights[image, columns] = gauss / gauss.sum()
    return weights


def _reciprocal(nearest: Integers) -> list[Integers]:
    """Return for every image those of its neighbours that have it as a neighbour."""
    lists = []
    for image, neighbours in enumerate(nearest):
        mutual: npt.NDArray[np.bool_] = (nearest[neighbours] == image).any(axis=1)
        lists.append(neighbours[mutual])
    return lists


def _jaccard_distances(weights: Scores, num_queries: int) -> Scores:
    """Return 1 - m / (2 - m) with m = sum_l min(v_ql, v_gl), (Q, G)."""
    num_gallery = len(weights) - num_queries
    holders = [np.flatnonzero(column) for column in weights[num_queries:].T]
    distances = np.empty((num_queries, num_gallery), dtype=np.float32)
    for query in range(num_queries):
        shared = np.zeros(num_gallery, dtype=np.float32)
        for entry in np.flatnonzero(weights[query]):
            images = holders[entry]
            own, theirs = weights[query, entry], weights[num_queries + images, entry]
            shared[images] += np.minimum(own, theirs)
        distances[query] = 1 - shared / (2 - shared)
    return distances


CONTESTANTS = (
    Contestant(
        name=OURS,
        does="sparse, no N x N array, then counting: features to mAP",
        run=run_engine,
        devices=("cpu", "cuda"),
    ),
    Contestant(
        name="dense",
        does="reference of our own: N x N arrays in NumPy, float32, then a full sort",
        run=run_dense,
        max_cells=2**29,
    ),
)
