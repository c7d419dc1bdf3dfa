"""Scores of images against each other: what neighbour lists and re-ranking are made from.

Scores are as in ``reid_core.evaluation.counting.scorer``, with all images of a set on both sides.
They are symmetric to the last bit: every product is computed once and used for both images.

Legend: N images, D embedding size, R rows, W columns, n pairs.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from reid_core.errors import ConfigError
from reid_core.evaluation.counting.scorer import InnerProduct, Scorer
from reid_core.evaluation.counting.scores import FLOAT32_RANGE, Scores, pair_scores
from reid_core.evaluation.rules import Indices

__all__ = ["ImageSetScorer", "SetMetric", "SymmetricScorer"]

SetMetric = Literal["half_squared_distance", "inner_product"]


class SymmetricScorer(Scorer, Protocol):
    """Scores of N images against each other; higher is nearer.

    ``num_queries`` and ``num_gallery`` are both N, ``exact`` gives a pair and its mirror image the
    same bits, and the error of a fast (precise) score is within the tolerance of either image.

    A method that mixes other evidence into the distance before re-ranking writes one of these; the
    distance is minus the score.
    """

    def twins(self) -> Indices:
        """Return (N,) int64 labels; images of one label score alike against every image.

        Only asked for where very many scores tie. All labels different is always right.
        """


class ImageSetScorer:
    """Scores of the images of one or more feature matrices, numbered one after the other.

    Args:
        features: (N_1, D), (N_2, D), ... float32, e.g. of the queries and of the gallery. They are
            not copied unless they lie on another device.
        metric: ``half_squared_distance``: the score is minus half the squared Euclidean distance,
            q.g - (q.q + g.g) / 2, exactly 0 for an image and itself. ``inner_product``: q.g.
            Products are ``pair_scores``, everything is float64.
        device: Where fast products are computed; by default where the first features lie.

    Raises:
        ConfigError: Unknown metric.
    """

    def __init__(
        self,
        *features: Tensor,
        metric: SetMetric = "half_squared_distance",
        device: torch.device | None = None,
    ) -> None:
        if metric not in ("half_squared_distance", "inner_product"):
            raise ConfigError(
                f"no metric of image sets is called {metric!r}; use half_squared_distance or "
                "inner_product"
            )
        self._device = features[0].device if device is None else device
        self._parts = tuple(part.detach().to(self._device) for part in features)
        self._offsets = np.cumsum([0, *(len(part) for part in self._parts)])
        places = range(len(self._parts))
        self._products = {
            (a, b): InnerProduct(self._parts[a], self._parts[b], self._device)
            for a, b in itertools.product(places, places)
        }
        self._tolerance = self._largest("tolerance")
        self._precise_tolerance = self._largest("precise_tolerance")
        self._halves: Scores | None = None
        if metric == "half_squared_distance":
            self._add_norms()

    @property
    def num_queries(self) -> int:
        """N."""
        return int(self._offsets[-1])

    @property
    def num_gallery(self) -> int:
        """N."""
        return int(self._offsets[-1])

    @property
    def device(self) -> torch.device:
        """Where fast scores are computed."""
        return self._device

    @property
    def tolerance(self) -> Scores:
        """(N,) float64, bound of |fast - exact|; infinite where float32 would overflow."""
        return self._tolerance

    @property
    def precise_tolerance(self) -> Scores:
        """(N,) float64, bound of |precise - exact|."""
        return self._precise_tolerance

    def tile(self, rows: Indices, columns: slice, out: Tensor) -> None:
        """Write (R, W) fast scores; see ``Scorer``."""
        for b, first in enumerate(self._offsets[:-1]):
            start, stop = max(columns.start, first), min(columns.stop, self._offsets[b + 1])
            if start >= stop:
                continue
            block = out[:, start - columns.start : stop - columns.start]
            part = slice(start - first, stop - first)
            for a, where in self._split(rows):
                local = rows[where] - self._offsets[a]
                if len(local) == len(rows):
                    self._products[a, b].tile(local, part, block)
                else:
                    values = block.new_empty(len(local), block.shape[1])
                    self._products[a, b].tile(local, part, values)
                    block[torch.from_numpy(where).to(block.device)] = values
        if self._halves is not None:
            out.sub_(self._fast_halves[columns])
            out.sub_(self._fast_halves[torch.from_numpy(rows).to(out.device)][:, None])

    def precise(self, rows: Indices, columns: Indices) -> Scores:
        """Return (R, W) float64 scores; see ``Scorer``."""
        block = np.empty((len(rows), len(columns)))
        for (a, left), (b, right) in itertools.product(self._split(rows), self._split(columns)):
            block[np.ix_(left, right)] = self._products[a, b].precise(
                rows[left] - self._offsets[a], columns[right] - self._offsets[b]
            )
        if self._halves is not None:
            block -= self._halves[rows][:, None] + self._halves[columns]
        return block

    def exact(self, rows: Indices, columns: Indices) -> Scores:
        """Return (n,) exact scores; see ``Scorer``."""
        scores = np.empty(len(rows))
        left, right = self._parts_of(rows), self._parts_of(columns)
        for a, b in self._products:
            cells = np.flatnonzero((left == a) & (right == b))
            scores[cells] = pair_scores(
                self._parts[a],
                self._parts[b],
                rows[cells] - self._offsets[a],
                columns[cells] - self._offsets[b],
            )
        if self._halves is not None:
            scores -= self._halves[rows] + self._halves[columns]
        return scores

    def twins(self) -> Indices:
        """Return (N,) int64 labels of equal feature vectors; see ``SymmetricScorer``."""
        labels: dict[bytes, int] = {}
        found = [
            labels.setdefault(
                hashlib.blake2b(row.cpu().numpy().tobytes(), digest_size=16).digest(), len(labels)
            )
            for part in self._parts
            for row in part
        ]
        return np.array(found, dtype=np.int64)

    def _largest(self, bound: str) -> Scores:
        """Return (N,) float64, the largest value of a bound among an image's products."""
        places = range(len(self._parts))
        rows = [np.max([getattr(self._products[a, b], bound) for b in places], 0) for a in places]
        return np.concatenate(rows)

    def _parts_of(self, images: Indices) -> Indices:
        """Return the place of the matrix that each image lies in."""
        places: Indices = np.searchsorted(self._offsets, images, side="right") - 1
        return places

    def _split(self, images: Indices) -> Iterator[tuple[int, Indices]]:
        """Yield the matrices that images lie in, each with the places of its images."""
        parts = self._parts_of(images)
        for part in np.unique(parts):
            yield int(part), np.flatnonzero(parts == part)

    def _add_norms(self) -> None:
        every = np.arange(self.num_queries)
        halves = self.exact(every, every) / 2
        largest = halves.max(initial=0)
        kind = np.float32 if largest < FLOAT32_RANGE else np.float64
        self._halves = halves
        self._fast_halves = torch.from_numpy(halves.astype(kind)).to(self._device)
        # Rounding of both halves and of both subtractions, whose results are below 4 * largest.
        unit = 2.0**-24 if kind == np.float32 else np.inf
        self._tolerance = self._tolerance + 16 * unit * largest
        self._precise_tolerance = self._precise_tolerance + 2.0**-49 * largest
