"""losses.json and losses_grad.npz: both triplet losses over four scales, with gradients."""

from __future__ import annotations

import itertools

import pytest
import torch

from reid_agw.losses import batch_hard, weighted_regularized_triplet
from reid_core.testing.golden import assert_parity

# Golden README: in float32 the larger of relative and absolute, the distance of an image to itself
# being rounding noise.
F64 = {"rel": 1e-10}
F32 = {"rel": 1e-4, "abs": 1e-4}
GRADIENT = 1e-6  # the arrays are float32
DIM, NUM_CENTRES, MARGIN = 32, 64, 0.3  # golden README
CASES, SCALES = ("balanced", "uneven"), ("0.05", "0.5", "1.0", "4.0")

LOSSES = {
    "wrt": weighted_regularized_triplet,
    "wrtnorm": lambda x, pids: weighted_regularized_triplet(x, pids, normalize=True),
    "batchhard": lambda x, pids: batch_hard(x, pids, margin=MARGIN),
}
DTYPES = {"f64": torch.float64, "f32": torch.float32}


@pytest.fixture(scope="module")
def record(golden):
    return golden.json("losses.json")


@pytest.fixture
def draw(golden_input, record):
    """Return a function from case and scale to float32 features and labels."""

    def make(case, scale):
        labels = torch.tensor(record[f"labels_{case}"])
        noise = golden_input(f"feat_{case}", (len(labels), DIM))
        centres = golden_input(f"centre_{case}", (NUM_CENTRES, DIM))
        return (noise + centres[labels]) * torch.tensor(float(scale)), labels

    return make


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_norm(draw, record, name, case, scale, precision):
    expected = record[f"{name}_{case}_s{scale}_{precision}"]
    features, pids = draw(case, scale)
    features = features.to(DTYPES[precision]).requires_grad_()
    found = LOSSES[name](features, pids)
    found.loss.backward()
    tolerance = F64 if precision == "f64" else F32
    assert found.loss.item() == pytest.approx(expected["loss"], **tolerance)
    assert found.correct.item() == expected["correct"]
    assert ("grad_l2" in expected) == (name != "wrtnorm")
    if "grad_l2" in expected:
        norm = features.grad.double().norm().item()
        assert norm == pytest.approx(expected["grad_l2"], **tolerance)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", CASES)
def test_gradient(golden, draw, case, scale):
    expected = golden.arrays("losses_grad.npz")[f"wrt_grad_{case}_s{scale}"]
    features, pids = draw(case, scale)
    features = features.double().requires_grad_()
    weighted_regularized_triplet(features, pids).loss.backward()
    found = features.grad[: len(expected)]
    assert_parity(found, expected, tolerance=GRADIENT, what=f"{case}, scale {scale}")


def test_no_value_of_the_files_is_left_out(golden, record):
    cases = list(itertools.product(CASES, SCALES))
    values = {f"{name}_{c}_s{s}_{p}" for name in LOSSES for c, s in cases for p in DTYPES}
    assert set(record) == values | {f"labels_{case}" for case in CASES}
    gradients = golden.arrays("losses_grad.npz")
    assert set(gradients) == {f"wrt_grad_{case}_s{scale}" for case, scale in cases}
