"""losses.json: distillation, label smoothing, triplets and multi-similarity, alone."""

from __future__ import annotations

import pytest
import torch

from reid_core.testing.golden import fill
from reid_deskpro.losses import (
    distillation_losses,
    identity_losses,
    multi_similarity_losses,
    triplet_losses,
)

# golden README
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}
# What the golden README fixes: factors of the inputs.
STUDENT, TEACHER = 2, 3


@pytest.fixture(scope="module")
def record(golden):
    return golden.json("losses.json")


@pytest.fixture(params=TOLERANCES, ids=["float64", "float32"])
def dtype(request):
    return request.param


@pytest.fixture
def draw(golden, record, dtype):
    """Return a function from the name of an input and a factor to it."""

    def fill_scaled(name, scale=1):
        # Scaled in float32, where three times a value is rounded.
        values = scale * fill(golden.input_name(f"loss.{name}"), record["shapes"][name])
        return torch.from_numpy(values).to(dtype).requires_grad_()

    return fill_scaled


@pytest.fixture
def pids(record):
    return torch.tensor(record["shapes"]["labels"])


@pytest.fixture
def check(record, dtype):
    def compare(loss, name, inputs=None):
        tolerance = TOLERANCES[dtype]
        assert loss.dtype == dtype
        assert loss.item() == pytest.approx(record[name], rel=tolerance, abs=tolerance)
        if inputs is not None:
            (gradient,) = torch.autograd.grad(loss, inputs)
            expected = record[f"{name}_gradnorm"]
            assert gradient.norm().item() == pytest.approx(expected, rel=tolerance, abs=tolerance)

    return compare


@pytest.mark.parametrize("temperature", [1, 5])
def test_distillation(draw, check, temperature):
    student, teacher = draw("student_logits", STUDENT), draw("teacher_logits", TEACHER)
    heads = distillation_losses(student.unbind(), teacher.unbind(), temperature=temperature)
    assert len(heads) == len(student)
    check(sum(heads), f"kd_T{temperature}", student)
    assert not torch.autograd.grad(
        sum(distillation_losses(student.unbind(), teacher.unbind(), temperature=temperature)),
        teacher,
        allow_unused=True,
    )[0]


def test_label_smoothing(draw, check, pids):
    logits = draw("student_logits", STUDENT)
    loss, *_ = identity_losses([logits[0]], pids)
    check(loss, "ce_ls", logits)


@pytest.mark.parametrize("margin", [0.7, 0.3, 0])
def test_triplet(draw, check, pids, margin):
    features = draw("feat")
    (loss,) = triplet_losses([features], pids, margin=margin)
    check(loss, f"triplet_m{margin}", features)


def test_triplet_of_equal_rows(draw, check, pids):
    features = draw("feat").detach()
    features[1] = features[0]
    check(triplet_losses([features], pids)[0], "triplet_dup_m0.7")


def test_multi_similarity(draw, check, pids):
    check(multi_similarity_losses([draw("feat")], pids, margin=0.7)[0], "ms_m0.7")


def test_no_figure_is_left_out(record):
    losses = {"kd_T1", "kd_T5", "ce_ls", "triplet_m0.7", "triplet_m0.3", "triplet_m0"}
    gradients = {f"{name}_gradnorm" for name in losses}
    assert set(record) == losses | gradients | {"triplet_dup_m0.7", "ms_m0.7", "shapes"}
