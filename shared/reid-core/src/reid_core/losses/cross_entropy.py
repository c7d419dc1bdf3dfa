"""Cross-entropy with smoothed targets."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from reid_core.precision import in_float32

__all__ = ["label_smoothing_cross_entropy"]


@in_float32
def label_smoothing_cross_entropy(
    logits: Tensor, labels: Tensor, *, epsilon: float = 0.1
) -> Tensor:
    """Return the cross-entropy with targets (1 - epsilon) * onehot + epsilon / N.

    Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7. The smoothing
    mass goes to all N classes, the true one included.

    Args:
        logits: (B, N) float.
        labels: (B,) int64 in 0..N-1.
        epsilon: Share of the target that is spread, in [0, 1).

    Returns:
        Scalar, mean over the batch.
    """
    return F.cross_entropy(logits, labels, label_smoothing=epsilon)
