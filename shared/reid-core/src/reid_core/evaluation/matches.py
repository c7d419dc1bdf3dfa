"""Ranked lists for pictures: the best gallery images of some queries, right, wrong or junk.

Legend: Q queries, G gallery images, D embedding size, R queries of a chunk.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid_core.errors import ProtocolError
from reid_core.evaluation.counting.precision import fast_products
from reid_core.evaluation.counting.scores import (
    FLOAT32_RANGE,
    Scores,
    distinct_pair_scores,
    gather_rows,
    in_float64,
    norm_bounds,
    product_tolerance,
)
from reid_core.evaluation.inputs import check_inputs
from reid_core.evaluation.ranking import Ranking
from reid_core.evaluation.rules import Indices, Labels, Match, MatchStatus, find_pairs

__all__ = ["TopMatch", "choose_queries", "top_matches"]

# In the order in which entries of equal score are listed.
_STATUSES: tuple[MatchStatus, ...] = ("wrong", "junk", "right")

# Cells of the score matrix that exist at one time (32 MB of float32), and images per product.
_CELLS = 2**23
_TILE = 8192


class TopMatch(NamedTuple):
    """One entry of a ranked list.

    Attributes:
        gallery_row: Row of the gallery.
        score: Exact score of the pair, as in ``reid_core.evaluation.counting.scores``.
        status: ``right`` (a match), ``wrong`` (another identity) or ``junk`` (left out).
    """

    gallery_row: int
    score: float
    status: MatchStatus


def top_matches(
    query_features: Tensor,
    gallery_features: Tensor,
    query: Labels,
    gallery: Labels,
    match: Match = "standard",
    k: int = 10,
    *,
    max_junk: int | None = None,
    device: torch.device | None = None,
) -> list[list[TopMatch]]:
    """Return the head of each query's ranking, junk included where it falls.

    Args:
        query_features: (Q, D) float32, the queries to show; usually a few.
        gallery_features: (G, D) float32.
        query: Labels of the queries.
        gallery: Labels of the gallery images.
        match: Which images of the query's identity are matches.
        k: Entries per query; fewer where the gallery is smaller.
        max_junk: Junk entries per query, the best ones; others are passed over, so that a film of
            the query itself does not fill the list. By default all.
        device: Where products are computed; by default where the query features lie.

    Returns:
        One list per query, by falling score. Equal scores: wrong, junk, right (the ranking counts
        wrong ones first, too), then by gallery row.

    Raises:
        ProtocolError: As ``rank_gallery``, or ``k`` is below 1.
    """
    if k < 1:
        raise ProtocolError(f"k={k} entries make no ranked list; use 1 or more")
    query_features, gallery_features = query_features.detach(), gallery_features.detach()
    check_inputs(query_features, gallery_features, query, gallery)
    device = query_features.device if device is None else device
    # How far below the k-th best product an image may lie and still be among the k best.
    norms = norm_bounds(query_features) * norm_bounds(gallery_features).max()
    kind = torch.float32 if norms.max() <= FLOAT32_RANGE else torch.float64
    margins = 2.0 * product_tolerance(kind, query_features.shape[1], norms)
    pairs = find_pairs(query, gallery, match)
    pair_rows = pairs.queries
    lists: list[list[TopMatch]] = []
    step = max(1, _CELLS // len(gallery))
    for start in range(0, len(query), step):
        rows = np.arange(start, min(start + step, len(query)))
        own = slice(pairs.offsets[rows[0]], pairs.offsets[rows[-1] + 1])
        junk = np.flatnonzero(~pairs.positive[own]) + own.start
        with fast_products(device):
            scores = _products(gather_rows(query_features, rows), gallery_features, kind, device)
        scores[pair_rows[junk] - start, pairs.gallery[junk]] = -torch.inf
        floors = torch.topk(scores, min(k, len(gallery)), dim=1).values[:, -1].double()
        floors -= torch.from_numpy(margins[rows])
        found = torch.nonzero((scores >= floors[:, None]) & (scores > -torch.inf)).numpy()
        cell_rows = np.concatenate([found[:, 0] + start, pair_rows[junk]])
        columns = np.concatenate([found[:, 1], pairs.gallery[junk]])
        exact = distinct_pair_scores(query_features, gallery_features, cell_rows, columns)
        statuses = _status_codes(query.pids[cell_rows], gallery.pids[columns], len(found))
        order = np.lexsort((columns, statuses, -exact, cell_rows))
        borders = np.searchsorted(cell_rows[order], rows[1:])
        lists += [
            _head(columns[part], exact[part], statuses[part], k, max_junk)
            for part in np.split(order, borders)
        ]
    return lists


def choose_queries(
    ranking: Ranking, count: int, how: Literal["hardest", "random"], seed: int = 1
) -> Indices:
    """Choose valid queries to look at.

    Args:
        ranking: Result of all queries.
        count: How many; all valid ones where there are fewer.
        how: ``hardest`` for the lowest average precision first, earlier queries first among equal
            ones; ``random`` for a sample in the order of the list.
        seed: Seed of the sample.

    Returns:
        (at most ``count``,) int64 query rows.
    """
    valid = np.flatnonzero(ranking.valid)
    if how == "hardest":
        hardest = np.argsort(ranking.average_precision[valid], kind="stable")
        return valid[hardest[:count]]
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(valid, size=min(count, len(valid)), replace=False))


def _products(rows: Tensor, gallery: Tensor, kind: torch.dtype, device: torch.device) -> Tensor:
    """Return (R, G) products on the CPU, computed tile by tile."""
    scores = torch.empty(len(rows), len(gallery), dtype=kind)
    for start in range(0, len(gallery), _TILE):
        tile = gallery[start : start + _TILE].to(device)
        left = rows.to(device)
        if kind == torch.float64:
            left, tile = in_float64(left), in_float64(tile)
        scores[:, start : start + _TILE] = left @ tile.T
    return scores


def _status_codes(query_pids: Indices, gallery_pids: Indices, num_ranked: int) -> Indices:
    """Return positions in ``_STATUSES``; cells from ``num_ranked`` on are junk."""
    codes = np.where(query_pids == gallery_pids, 2, 0)
    codes[num_ranked:] = 1
    return codes


def _head(
    columns: Indices, scores: Scores, statuses: Indices, k: int, max_junk: int | None
) -> list[TopMatch]:
    entries: list[TopMatch] = []
    num_junk = 0
    for column, score, code in zip(columns, scores, statuses, strict=True):
        if _STATUSES[code] == "junk":
            num_junk += 1
            if max_junk is not None and num_junk > max_junk:
                continue
        entries.append(TopMatch(int(column), float(score), _STATUSES[code]))
        if len(entries) == k:
            break
    return entries
