"""triplet.npz: the batch-hard triplet loss, its precision and its gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_core.testing.golden import assert_parity
from reid_iics.losses import triplet_loss

TOLERANCE = 1e-5  # golden README
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 7])
NUM_CENTRES = 8


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("triplet.npz")


@pytest.mark.parametrize("apart", [False, True], ids=["mixed", "apart"])
def test_loss_precision_and_gradient(golden_input, arrays, apart):
    suffix = "_sep" if apart else ""
    gradient = arrays[f"grad{suffix}"]
    features = golden_input("triplet.feat", gradient.shape)
    if apart:
        centres = golden_input("triplet.centers", (NUM_CENTRES, gradient.shape[1]))
        features = np.float32(0.35) * centres[LABELS] + np.float32(0.6) * features
    features.requires_grad_()
    loss, precision = triplet_loss(features, LABELS)
    loss.backward()
    assert_parity(loss, arrays[f"loss{suffix}"], tolerance=TOLERANCE, what="loss")
    assert_parity(precision, arrays[f"prec{suffix}"], tolerance=TOLERANCE, what="precision")
    assert_parity(features.grad, gradient, tolerance=TOLERANCE, what="gradient")
