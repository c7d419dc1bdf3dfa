"""train_intra.npz and .json: two iterations of the intra-camera stage, in float64."""

from __future__ import annotations

import pytest
import torch

from reid_core.testing.golden import assert_parity
from reid_iics.model import Heads
from reid_iics.step import IntraStep

EXACT = 1e-9  # golden README
# Golden README: how far the official float32 is from float64; the second one is relative.
LOSSES, GRADIENTS, MIXING_GRADIENTS = 1e-4, 4e-3, 5e-2
# No figure is given for the other float32 numbers; the losses above show what they are good for.
FORWARD, STATISTICS = 1e-3, 1e-5
# One mixing weight's float32 gradient of the public set is 0.08 from float64, whose effect on all
# of them together the two iterations compare exactly.
ONE_MIXING_GRADIENT = 2e-1
HEAD_LR = 5e-6  # golden README; the backbone has a tenth of it
TARGETS = ((0, 3, 3, 11), (8, 1, 0, 1), (13, 2, 5, 2))  # golden README, camera by camera
NUM_STEPS = 2  # of three loaders with 2, 3 and 4 batches (golden README)
DIM = 2048

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("train_intra.npz")


@pytest.fixture(scope="module")
def record(golden):
    return golden.json("train_intra.json")


@pytest.fixture(scope="module")
def training(train, arrays, golden_batch):
    heads = Heads(DIM, [arrays[f"logits.{camera}"].shape[1] for camera in range(len(arrays))])
    images = [
        golden_batch(labels, f"cam{camera}.").double() for camera, labels in enumerate(TARGETS)
    ]
    batch = (images, [torch.tensor(labels) for labels in TARGETS])
    return train(heads, HEAD_LR, IntraStep, batch, NUM_STEPS)


def test_logits(training, arrays):
    assert {f"logits.{camera}" for camera in range(len(TARGETS))} == arrays.keys()
    for camera in range(len(TARGETS)):
        name = f"logits.{camera}"
        assert_parity(training.logits[camera], arrays[name], tolerance=FORWARD, what=name)


def test_losses(training, record):
    terms = training.terms[0]
    found = [terms[f"loss_camera_{camera}"].item() for camera in range(len(TARGETS))]
    assert found == pytest.approx(record["loss_ce_per_cam"], rel=0, abs=LOSSES)
    assert terms["loss"].item() == pytest.approx(
        record["loss_sum"], rel=0, abs=len(TARGETS) * LOSSES
    )


def test_gradients_of_the_sum(training, record, module_norms):
    norms = dict(record["grad_norm"])
    of_mixing = norms.pop("adaptive_weight")
    found = module_norms(training.gradients)
    assert found.pop("adaptive_weight") == pytest.approx(of_mixing, rel=0, abs=MIXING_GRADIENTS)
    assert found == pytest.approx(norms, rel=GRADIENTS)
    each = record["grad_adaptive_weight"]
    found = {name: training.gradients[name].item() for name in each}
    assert found == pytest.approx(each, rel=0, abs=ONE_MIXING_GRADIENT)


def test_running_statistics_are_updated_camera_by_camera(training, record, sum_and_norm):
    expected = record["running_stats_sum_l2"]
    assert training.statistics.keys() == expected.keys()
    for name, (total, norm) in expected.items():
        found_total, found_norm = sum_and_norm(training.statistics[name])
        assert found_norm == pytest.approx(norm, rel=STATISTICS), name
        assert found_total == pytest.approx(total, rel=0, abs=STATISTICS * norm), name


def test_two_iterations(training, record, module_norms, sum_and_norm):
    expected = record["two_steps_float64"]
    found = [
        [camera, terms[f"loss_camera_{camera}"].item()]
        for terms in training.terms
        for camera in range(len(TARGETS))
    ]
    assert [camera for camera, _ in found] == [camera for camera, _ in expected["calls_cam_loss"]]
    assert [loss for _, loss in found] == pytest.approx(
        [loss for _, loss in expected["calls_cam_loss"]], rel=EXACT
    )
    changes = {name: training.after[name] - training.before[name] for name in training.gradients}
    assert module_norms(changes) == pytest.approx(expected["param_delta_norm"], rel=EXACT)
    for name, figures in expected["running_stats_sum_l2_after"].items():
        assert sum_and_norm(training.after[name]) == pytest.approx(figures, rel=EXACT), name
