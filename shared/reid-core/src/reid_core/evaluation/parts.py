"""Features made of parts (face, head, legs, ...) that are compared part by part.

Legend: N images, D embedding size of a part, P parts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reid_core.errors import ProtocolError
from reid_core.evaluation.counting.scores import l2_normalize

__all__ = ["l2_normalize_parts"]


def l2_normalize_parts(features: Tensor) -> Tensor:
    """Scale every part to unit length and put the parts of an image one after the other.

    The inner product of two such rows is the sum of the cosines of their parts, which is the
    similarity of DeskPro (official behaviour, but for missing parts). A part that is all zero, such
    as the face of an image in which none was found, stays zero: it adds nothing, and a query
    without it is compared by its other parts alone.

    Args:
        features: (N, D, P) floating point, a column per part.

    Returns:
        (N, P * D) float32, float64 for float64 features; part p in columns p * D to (p + 1) * D.

    Raises:
        ProtocolError: Another shape.
    """
    if features.ndim != 3:
        raise ProtocolError(
            f"part features have shape {tuple(features.shape)}; (images, D, parts) is expected"
        )
    num_images, dim, num_parts = features.shape
    rows = features.detach().transpose(1, 2).reshape(num_images * num_parts, dim)
    if rows.dtype == torch.float64:
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        rows = rows / torch.where(norms > 0, norms, 1)
    else:
        rows = l2_normalize(rows)
    return rows.view(num_images, num_parts * dim)
