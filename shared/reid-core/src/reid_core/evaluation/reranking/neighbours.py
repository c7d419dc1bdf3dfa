"""Exact nearest neighbours of many images, without a matrix of all pairs.

The k images of the highest score are listed by falling exact score. **Ties**: of images with
exactly equal scores the row's own image comes first, then the lower index. Fast products collect a
few more than k candidates per row; those that could be in another place by their exact score are
scored exactly. The lists are therefore the same whatever the chunks, threads, devices and
precisions are.

Legend: Q rows, G columns, N images of a set (Q = G = N there), k neighbours, M candidates per row,
R rows and W columns of a tile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from reid_core.errors import ConfigError
from reid_core.evaluation.counting.precision import fast_products
from reid_core.evaluation.counting.scorer import Scorer
from reid_core.evaluation.counting.threads import for_each
from reid_core.evaluation.reranking.candidates import Candidates
from reid_core.evaluation.reranking.image_set import SymmetricScorer
from reid_core.evaluation.reranking.neighbour_lists import BLOCK_BYTES, NeighbourLists, Neighbours

__all__ = ["Neighbours", "nearest_in_set", "nearest_neighbours", "neighbours_bytes"]

# Candidates beyond k; a row that needs more is searched once more, in float64.
_SPARE = 11

# Candidates of the lowest score.
_LOWEST = 4


class _Tile(NamedTuple):
    """Rows and columns of a product."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]


def nearest_neighbours(
    scorer: Scorer, k: int, *, chunk: int | None = None, tile: int | None = None
) -> Neighbours:
    """List the nearest gallery images of every query.

    Args:
        scorer: Scores of Q queries against G gallery images.
        k: Neighbours per query; all of the gallery where it is smaller.
        chunk: R, queries per product. It and ``tile`` change time and memory, never the result.
        tile: W, gallery images per product.

    Returns:
        The lists. There is no own image among the columns: equal scores are ordered by index.

    Raises:
        ConfigError: ``k`` is below 1.
    """
    chunk, tile = _tile_size(scorer, chunk, tile)
    rows = _ranges(scorer.num_queries, chunk)
    first, *others = _ranges(scorer.num_gallery, tile)
    search = _Search(scorer, k)
    with fast_products(scorer.device):
        search.run([_Tile(part, first) for part in rows], begin=True)
        search.run([_Tile(part, columns) for columns in others for part in rows], begin=False)
        return NeighbourLists(scorer, search.k, None).settle(search.high, search.low)


def nearest_in_set(
    scorer: SymmetricScorer, k: int, *, chunk: int | None = None, tile: int | None = None
) -> Neighbours:
    """List the nearest images of every image of a set, itself included.

    Every product serves both of its images: N^2 / 2 of them are computed.

    Args:
        scorer: Scores of N images against each other.
        k: Neighbours per image, itself included; all N where there are fewer.
        chunk: R, images per product. It and ``tile`` change time and memory, never the result.
        tile: W, images on the products' other side.

    Returns:
        The lists. An image comes first in its own list, unless others score higher against it than
        it does itself, which mixed scores allow.

    Raises:
        ConfigError: ``k`` is below 1.
    """
    chunk, tile = _tile_size(scorer, chunk, tile)
    parts = _ranges(scorer.num_queries, chunk)
    above = [
        _Tile(part, columns)
        for part in parts
        for columns in _ranges(scorer.num_gallery, tile, part[1])
    ]
    search = _Search(scorer, k)
    with fast_products(scorer.device):
        search.run([_Tile(part, part) for part in parts], begin=True)
        search.run(above, begin=False, both=True)
        return NeighbourLists(scorer, search.k, scorer).settle(search.high, search.low)


def neighbours_bytes(
    num_rows: int, k: int, *, chunk: int = 1024, tile: int = 4096, num_threads: int = 1
) -> int:
    """Estimate the memory that a search needs beyond the features, on a CPU.

    Args:
        num_rows: Q or N.
        k: Neighbours per row.
        chunk: R.
        tile: W.
        num_threads: Threads that torch uses.

    Returns:
        Bytes.
    """
    lists = num_rows * (8 * (k + _SPARE + _LOWEST) + 4 * k + 4 * 8)
    # Scores, the maxima of their groups, what is found in a tile.
    tiles = num_threads * chunk * (tile * 6 + (k + _SPARE) * 16 * 16)
    return lists + tiles + BLOCK_BYTES


class _Search:
    """The candidates of all rows.

    Attributes:
        k: Neighbours per row, at most G.
        high: Candidates of the highest score.
        low: Candidates of the lowest score.
    """

    def __init__(self, scorer: Scorer, k: int) -> None:
        if k < 1:
            raise ConfigError(f"k={k} neighbours make no list; use 1 or more")
        self._scorer = scorer
        self.k = min(k, scorer.num_gallery)
        count, total = scorer.num_queries, scorer.num_gallery
        self.high = Candidates(
            count, min(self.k + _SPARE, total), largest=True, device=scorer.device
        )
        self.low = Candidates(count, min(_LOWEST, total), largest=False, device=scorer.device)

    def run(self, tiles: list[_Tile], *, begin: bool, both: bool = False) -> None:
        """Compute tiles and take them in, for their rows or for rows and columns alike."""
        cells = max((tile.shape[0] * tile.shape[1] for tile in tiles), default=0)

        def make_worker() -> Callable[[_Tile], None]:
            buffer = torch.empty(cells, dtype=torch.float32, device=self._scorer.device)

            def work(tile: _Tile) -> None:
                shape = tile.shape
                scores = buffer[: shape[0] * shape[1]].view(shape)
                self._scorer.tile(np.arange(*tile.rows), slice(*tile.columns), scores)
                for candidates in (self.high, self.low):
                    take_in = candidates.begin if begin else candidates.add
                    take_in(scores, tile.rows[0], tile.columns[0])
                    if both:
                        candidates.add_columns(scores, tile.columns[0], tile.rows[0])

            return work

        if self._scorer.device.type == "cpu":
            for_each(tiles, make_worker)
        else:
            work = make_worker()
            for tile in tiles:
                work(tile)


def _ranges(stop: int, size: int, start: int = 0) -> list[tuple[int, int]]:
    return [(first, min(first + size, stop)) for first in range(start, stop, size)]


def _tile_size(scorer: Scorer, chunk: int | None, tile: int | None) -> tuple[int, int]:
    """Choose R and W: 16 MB of scores on a CPU, 256 MB on other devices."""
    on_cpu = scorer.device.type == "cpu"
    return chunk or (1024 if on_cpu else 4096), tile or (4096 if on_cpu else 16384)
