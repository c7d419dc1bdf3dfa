"""train_inter.npz and .json: three iterations of the inter-camera stage, in float64."""

from __future__ import annotations

import pytest
import torch

from reid_core.testing.golden import assert_parity
from reid_iics.model import Head
from reid_iics.step import InterStep

EXACT = 1e-9  # golden README
# Golden README: how far the official float32 is from float64; the second one is relative.
LOSSES, GRADIENTS, MIXING_GRADIENTS = 1e-4, 4e-3, 5e-2
# No figure is given for the other float32 numbers; the losses above show what they are good for.
FORWARD, STATISTICS = 1e-3, 1e-5
HEAD_LR = 1e-5  # golden README; the backbone has a tenth of it
IMAGES_PER_LABEL = 2
DIM = 2048

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("train_inter.npz")


@pytest.fixture(scope="module")
def record(golden):
    return golden.json("train_inter.json")


@pytest.fixture(scope="module")
def training(train, arrays, record, golden_batch):
    num_images, num_classes = arrays["logits"].shape
    labels = [number // IMAGES_PER_LABEL for number in range(num_images)]
    batch = (golden_batch(labels).double(), torch.tensor(labels))
    num_steps = len(record["three_steps_float64"]["loss_ce_triplet_per_step"])
    return train(Head(DIM, num_classes), HEAD_LR, InterStep, batch, num_steps)


def test_logits_and_features(training, arrays):
    assert_parity(training.logits[0], arrays["logits"], tolerance=FORWARD, what="logits")
    assert_parity(training.features[0], arrays["gap"], tolerance=FORWARD, what="gap")


def test_losses(training, record):
    terms = {name: value.item() for name, value in training.terms[0].items()}
    names = {"loss_id": "loss_ce", "loss_tri": "loss_triplet"}
    for name, golden_name in names.items():
        exact = record["float64"][golden_name]
        assert terms[name] == pytest.approx(exact, rel=EXACT), name
        assert terms[name] == pytest.approx(record[golden_name], rel=0, abs=LOSSES), name
    assert terms["loss"] == pytest.approx(record["loss_total"], rel=0, abs=LOSSES)
    assert terms["precision"] == pytest.approx(record["triplet_prec"], rel=1e-6)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_gradients(training, record, module_norms, kind):
    exact = kind == "float64"
    expected = record["float64"] if exact else record
    norms = dict(expected["grad_norm"])
    of_mixing = norms.pop("adaptive_weight")
    found = module_norms(training.gradients)
    found_of_mixing = found.pop("adaptive_weight")
    assert found == pytest.approx(norms, rel=EXACT if exact else GRADIENTS)
    tolerance = {"rel": EXACT} if exact else {"rel": 0, "abs": MIXING_GRADIENTS}
    assert found_of_mixing == pytest.approx(of_mixing, **tolerance)
    each = expected["grad_adaptive_weight"]
    found = {name: training.gradients[name].item() for name in each}
    assert found == pytest.approx(each, **tolerance)


def test_running_statistics(training, record, sum_and_norm):
    expected = record["running_stats_sum_l2"]
    assert training.statistics.keys() == expected.keys()
    for name, (total, norm) in expected.items():
        found_total, found_norm = sum_and_norm(training.statistics[name])
        assert found_norm == pytest.approx(norm, rel=STATISTICS), name
        assert found_total == pytest.approx(total, rel=0, abs=STATISTICS * norm), name


def test_three_iterations(training, record, module_norms, sum_and_norm):
    expected = record["three_steps_float64"]
    found = [[terms["loss_id"].item(), terms["loss_tri"].item()] for terms in training.terms]
    assert len(found) == 3
    for step, (ours, theirs) in enumerate(
        zip(found, expected["loss_ce_triplet_per_step"], strict=True)
    ):
        assert ours == pytest.approx(theirs, rel=EXACT), f"losses of iteration {step}"

    changes = {name: training.after[name] - training.before[name] for name in training.gradients}
    assert module_norms(changes) == pytest.approx(expected["param_delta_norm"], rel=EXACT)
    assert not (training.after["classifier.0.bias"] - training.before["classifier.0.bias"]).any()
    mixing = {name: training.after[name].item() for name in expected["adaptive_weight_after"]}
    assert mixing == pytest.approx(expected["adaptive_weight_after"], rel=EXACT)
    for name, figures in expected["running_stats_sum_l2_after"].items():
        assert sum_and_norm(training.after[name]) == pytest.approx(figures, rel=EXACT), name
