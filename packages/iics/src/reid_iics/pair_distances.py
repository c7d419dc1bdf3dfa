"""The distances of all pairs of images, in one vector that every step works in.

They are the strict upper triangle, row by row (2 N^2 bytes). Neighbours are sought in it,
re-ranking reads it and puts its own distances in their place, and the clustering works in the same
memory: there is never a square matrix.

Legend: N images, R rows, W columns, n pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_core.errors import ConfigError
from reid_core.evaluation import RerankedScores
from reid_core.evaluation.counting.scores import Scores
from reid_iics.cluster_distances import Integers, num_pairs, row_starts

__all__ = ["PairDistances", "put_reranked", "upper_tiles"]

Float32s = npt.NDArray[np.float32]

# Images on either side of a tile: 4 MB of float32, on other devices 256 MB. Of few images a tile is
# smaller, so that it stays small beside the distances of all pairs.
_CPU_TILE = 1024
_CPU_TILES = 8
_LEAST_CPU_TILE = 256
_DEVICE_TILE = 8192


class PairDistances:
    """Distances of all pairs of N images, as scores for neighbour lists and re-ranking.

    A ``SymmetricScorer`` (``reid_core.evaluation.reranking.image_set``): the score of a pair is
    minus its distance, exactly what is stored, so no score is uncertain.

    Args:
        condensed: (N (N - 1) / 2,) float32, the pairs (0, 1), (0, 2), ..., (1, 2), ...; not copied.
        diagonal: (N,) float32, the distance of an image and itself, which need not be the smallest.

    Raises:
        ConfigError: Not so many distances.
    """

    def __init__(self, condensed: Float32s, diagonal: Float32s) -> None:
        if condensed.shape != (num_pairs(len(diagonal)),):
            raise ConfigError(
                f"distances of shape {condensed.shape} are not those of all pairs of "
                f"{len(diagonal)} images; use {num_pairs(len(diagonal))}"
            )
        self.condensed = condensed
        self.diagonal = diagonal
        self._starts = row_starts(len(diagonal))

    @property
    def num_queries(self) -> int:
        """N."""
        return len(self.diagonal)

    @property
    def num_gallery(self) -> int:
        """N."""
        return len(self.diagonal)

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def tolerance(self) -> Scores:
        """(N,) float64, all 0."""
        return np.zeros(self.num_queries)

    @property
    def precise_tolerance(self) -> Scores:
        """(N,) float64, all 0."""
        return np.zeros(self.num_queries)

    def tile(self, rows: Integers, columns: slice, out: Tensor) -> None:
        """Write (R, W) scores; see ``Scorer``."""
        block = out.numpy()
        for values, row in zip(block, rows.tolist(), strict=True):
            self._read(row, columns.start, columns.stop, values)
        np.negative(block, out=block)

    def precise(self, rows: Integers, columns: Integers) -> Scores:
        """Return (R, W) float64 scores; see ``Scorer``."""
        left, right = np.broadcast_arrays(rows[:, None], columns)
        return self.exact(left.ravel(), right.ravel()).reshape(left.shape)

    def exact(self, rows: Integers, columns: Integers) -> Scores:
        """Return (n,) float64 scores; see ``Scorer``."""
        scores = np.empty(len(rows))
        same = rows == columns
        scores[same] = self.diagonal[rows[same]]
        low, high = np.minimum(rows, columns)[~same], np.maximum(rows, columns)[~same]
        scores[~same] = self.condensed[self._starts[low] + high]
        return np.negative(scores, out=scores)

    def twins(self) -> Integers:
        """Return (N,) int64 labels, all different; see ``SymmetricScorer``."""
        return np.arange(self.num_queries)

    def put(self, rows: slice, columns: slice, block: Tensor) -> None:
        """Replace the distances of some images to others; pairs i >= j of the block are left out.

        Args:
            rows: R images, start and stop given.
            columns: W images, start and stop given.
            block: (R, W) float32 on the CPU.
        """
        for row, values in zip(range(rows.start, rows.stop), block.numpy(), strict=True):
            first = max(row + 1, columns.start)
            if first < columns.stop:
                start = self._starts[row]
                self.condensed[start + first : start + columns.stop] = values[
                    first - columns.start :
                ]

    def _read(self, row: int, start: int, stop: int, out: Float32s) -> None:
        """Write the distances of an image to those from ``start`` to ``stop``."""
        below, above = min(max(row, start), stop), max(min(row + 1, stop), start)
        if start < below:
            places = self._starts[start:below] + row
            np.take(self.condensed, places, out=out[: below - start], mode="clip")
        if below < above:
            out[below - start] = self.diagonal[row]
        first = self._starts[row]
        out[above - start :] = self.condensed[first + above : first + stop]


def put_reranked(
    pairs: PairDistances,
    reranked: RerankedScores,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Put re-ranked distances in the place of those that they are made from.

    Re-ranked distances are not symmetric. Those of the image with the lower number decide: the
    strict upper triangle, as SciPy and scikit-learn read a matrix (official behaviour).

    Args:
        pairs: The distances, which ``reranked`` reads; **overwritten**.
        reranked: All N images against all, e.g. by ``rerank_set(pairs)``.
        progress: Called with (rows done, N) now and then.
    """
    count = pairs.num_queries
    for rows, columns in upper_tiles(count, pairs.device):
        # A tile reads its own places alone.
        pairs.put(rows, columns, reranked.distances(rows, columns))
        if columns.stop == count:
            progress(rows.stop, count)


def upper_tiles(count: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of the tiles that together hold all pairs i < j, row by row."""
    size = _DEVICE_TILE
    if device.type == "cpu":
        size = min(max(_LEAST_CPU_TILE, -(-count // _CPU_TILES)), _CPU_TILE)
    parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    for place, rows in enumerate(parts):
        for columns in parts[place:]:
            yield rows, columns
