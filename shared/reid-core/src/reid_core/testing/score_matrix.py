"""A scorer whose scores are given: how tests feed re-ranking with distances from elsewhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["ScoreMatrix"]


class ScoreMatrix:
    """Scores that are given as a matrix; a ``Scorer``, and a ``SymmetricScorer`` if it is that.

    Args:
        scores: (Q, G), e.g. minus distances; taken as float64.
        noise: Largest error of fast scores, which is drawn; they are float32 besides.
    """

    def __init__(self, scores: npt.ArrayLike, noise: float = 0.0) -> None:
        self._scores = np.asarray(scores, dtype=np.float64)
        rng = np.random.default_rng(1)
        self._fast = self._scores + rng.uniform(-noise, noise, self._scores.shape)
        largest = np.abs(self._fast).max(initial=0)
        self._tolerance = np.full(len(self._scores), 1.01 * noise + 2.0**-24 * largest)

    @property
    def num_queries(self) -> int:
        """Q."""
        return len(self._scores)

    @property
    def num_gallery(self) -> int:
        """G."""
        return int(self._scores.shape[1])

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def tolerance(self) -> npt.NDArray[np.float64]:
        """(Q,) error of rounding to float32 and of the noise."""
        return self._tolerance

    @property
    def precise_tolerance(self) -> npt.NDArray[np.float64]:
        """(Q,) zeros."""
        return np.zeros(len(self._scores))

    def tile(self, rows: npt.NDArray[np.int64], columns: slice, out: Tensor) -> None:
        """Write (R, W) float32 scores; see ``Scorer``."""
        out.copy_(torch.from_numpy(self._fast[rows, columns]))

    def precise(
        self, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return (R, W) float64 scores; see ``Scorer``."""
        return self._scores[np.ix_(rows, columns)]

    def exact(
        self, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return (n,) float64 scores; see ``Scorer``."""
        return self._scores[rows, columns]

    def twins(self) -> npt.NDArray[np.int64]:
        """Return (N,) different labels; see ``SymmetricScorer``."""
        return np.arange(len(self._scores))
