"""k-reciprocal encodings of images, as sparse rows (Zhong et al., CVPR 2017, sections 3.2 to 3.4).

Every step is done on neighbour lists and a few dozen entries per image; no array has N x N cells.
Sets and counts are integers, weights float64, and sums have a fixed order, so encodings do not
depend on how the work was cut.

Legend: N images, k1 and k2 as in ``RerankConfig``; N(i, k) the image i and its k nearest, by rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from reid_core.evaluation.counting.scores import Scores
from reid_core.evaluation.reranking.config import RerankConfig
from reid_core.evaluation.reranking.image_set import SymmetricScorer
from reid_core.evaluation.reranking.neighbour_lists import Neighbours
from reid_core.evaluation.rules import Indices

__all__ = ["Normalization", "encode"]

# Rows whose expansion is decided together; their sparse product holds a few hundred cells per row.
_EXPAND_ROWS = 4096

# Pairs scored in one call.
_SCORE_PAIRS = 2**16


@dataclass(frozen=True, eq=False)
class Normalization:
    """How scores become normalised distances: (offset - score) / extent, 0 where extent is 0.

    Attributes:
        offset: (N,) float64 score at distance 0.
        extent: (N,) float64 distance of the farthest image, at least 0.
    """

    offset: Scores
    extent: Scores

    @classmethod
    def of(cls, neighbours: Neighbours, config: RerankConfig) -> Normalization:
        """Return the scales of all rows; see ``RerankConfig.normalization``."""
        offset = neighbours.highest if config.normalization == "min_max" else 0.0
        offset = np.broadcast_to(np.float64(offset), neighbours.highest.shape)
        return cls(offset=offset, extent=np.maximum(offset - neighbours.lowest, 0.0))

    def slopes(self, rows: Indices) -> Scores:
        """Return 1 / extent, 0 where images cannot be told apart."""
        extent = self.extent[rows]
        slopes = np.zeros_like(extent)
        np.divide(1.0, extent, out=slopes, where=extent > 0)
        return slopes


def encode(
    scorer: SymmetricScorer,
    neighbours: Neighbours,
    normalization: Normalization,
    config: RerankConfig,
) -> sparse.csr_array:
    """Encode every image by its weights on its reciprocal neighbours.

    1. R(i) = {j in N(i, k1): i in N(j, k1)}, and the same for k1 / 2.
    2. R*(i) = R(i) and every half-size R(j), j in R(i), of which more than 2/3 lies in R(i).
    3. v_ij = exp(-d_ij) / sum, over j in R*(i), d the normalised distance.
    4. v_i = mean of v_r over the first k2 images r of i's list, itself included.

    Args:
        scorer: Scores of the images.
        neighbours: Lists of ``config.list_length`` images (or all).
        normalization: Of the distances.
        config: The settings.

    Returns:
        (N, N) float64 with sorted rows that sum to 1 (to 0 for an image that is not in its own
        list, which only mixed scores can bring about).
    """
    reciprocal = _reciprocal(neighbours, config.k1 + 1)
    half = _reciprocal(neighbours, config.half_k1 + 1)
    expanded = _expand(reciprocal, half)
    weights = _gaussian_weights(expanded, scorer, normalization)
    if config.k2 == 1:
        return weights
    averaged = sparse.csr_array(_lists(neighbours, config.k2) @ weights)
    averaged.data /= min(config.k2, neighbours.columns.shape[1])
    averaged.sort_indices()
    return averaged


def _lists(neighbours: Neighbours, length: int) -> sparse.csr_array:
    """Return the first entries of all lists as an (N, N) matrix of ones, rows sorted."""
    columns = np.sort(neighbours.columns[:, :length], axis=1)
    count, length = columns.shape
    offsets = np.arange(0, count * length + 1, length)
    ones = np.ones(count * length, dtype=np.int32)
    return sparse.csr_array((ones, columns.ravel(), offsets), shape=(count, count))


def _reciprocal(neighbours: Neighbours, length: int) -> sparse.csr_array:
    lists = _lists(neighbours, length)
    return sparse.csr_array(lists.multiply(lists.T.tocsr()))


def _expand(reciprocal: sparse.csr_array, half: sparse.csr_array) -> sparse.csr_array:
    """Return R* as a matrix whose non-zero cells are its members."""
    sizes = np.diff(half.indptr)
    containing = half.T.tocsr()
    parts = []
    for start in range(0, reciprocal.shape[0], _EXPAND_ROWS):
        own = reciprocal[start : start + _EXPAND_ROWS]
        overlaps = (own @ containing).multiply(own).tocsr()
        overlaps.data = (3 * overlaps.data > 2 * sizes[overlaps.indices]).astype(np.int32)
        overlaps.eliminate_zeros()
        parts.append((own + overlaps @ half).tocsr())
    expanded = sparse.csr_array(sparse.vstack(parts))
    expanded.sort_indices()
    return expanded


def _gaussian_weights(
    members: sparse.csr_array, scorer: SymmetricScorer, normalization: Normalization
) -> sparse.csr_array:
    count = members.shape[0]
    rows = np.repeat(np.arange(count), np.diff(members.indptr))
    columns = members.indices.astype(np.int64)
    # Scores are symmetric: of a pair and its mirror image one is computed.
    low, high = np.minimum(rows, columns), np.maximum(rows, columns)
    pairs, places = np.unique(low * count + high, return_inverse=True)
    scores = np.empty(len(pairs))
    for start in range(0, len(pairs), _SCORE_PAIRS):
        part = slice(start, start + _SCORE_PAIRS)
        scores[part] = scorer.exact(pairs[part] // count, pairs[part] % count)
    distances = (normalization.offset[rows] - scores[places]) * normalization.slopes(rows)
    weights = np.exp(-distances)
    # bincount adds in the order of the entries.
    weights /= np.bincount(rows, weights, minlength=count)[rows]
    return sparse.csr_array((weights, members.indices, members.indptr), shape=members.shape)
