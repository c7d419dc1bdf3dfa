"""Features that have given scores: how tests feed the evaluation with distances from elsewhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["features_of_scores", "in_two_parts"]


def features_of_scores(scores: npt.ArrayLike) -> tuple[Tensor, Tensor]:
    """Return features whose inner products are exactly the given scores.

    Args:
        scores: (Q, G) float32, finite; minus a distance, for example.

    Returns:
        (Q, Q) and (G, Q) float32: one axis per query, on which the gallery images have its scores.
    """
    values = np.array(scores, dtype=np.float32)
    return torch.eye(len(values)), torch.from_numpy(np.ascontiguousarray(values.T))


def in_two_parts(
    queries: npt.NDArray[np.float64], gallery: npt.NDArray[np.float64]
) -> tuple[Tensor, Tensor]:
    """Return float32 features whose inner products are those of float64 ones, but for 1e-14.

    x = a + b with float32 a and b, so <x, y> = <(a, a, b, b), (c, d, c, d)> for y = c + d.

    Args:
        queries: (Q, D) of about unit length.
        gallery: (G, D) of about unit length.

    Returns:
        (Q, 4 D) and (G, 4 D) float32.
    """

    def split(values: npt.NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        exact = torch.from_numpy(values)
        large = exact.float()
        return large, (exact - large.double()).float()

    (a, b), (c, d) = split(queries), split(gallery)
    return torch.cat([a, a, b, b], dim=1), torch.cat([c, d, c, d], dim=1)
