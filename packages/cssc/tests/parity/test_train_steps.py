"""model.npz and model.json in training: features, logits, losses, gradients, three Adam steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_core.config import OptimConfig
from reid_core.engine.optimizers import build_optimizer
from reid_core.testing.golden import fill_module
from reid_cssc.config import LossConfig
from reid_cssc.losses import identity_losses, triplet_losses
from reid_cssc.model import CSSC, HEADS
from reid_cssc.step import TrainingStep

# Per precision, as in the golden README.
FORWARD = {torch.float32: 2e-3, torch.float64: 1e-9}  # absolute
ID_LOSSES = {torch.float32: 5e-5, torch.float64: 1e-8}
LOSSES = {torch.float32: 5e-5, torch.float64: 1e-7}
GRADIENTS = {torch.float32: 1e-2, torch.float64: 1e-7}
ADAM = {torch.float32: (5e-5, 2e-3, 2e-2), torch.float64: (1e-6, 1e-6, 1e-6)}
SUFFIX = {torch.float32: "", torch.float64: "_f64"}
NAME = {torch.float32: "f32", torch.float64: "f64"}

ADAM_KEY = "adam_lr3e-5_total_loss_before_step_1_2_3"


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("model.npz")


@pytest.fixture(scope="module")
def record(golden):
    return golden.json("model.json")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(torch.float32, marks=pytest.mark.slow),
        pytest.param(torch.float64, marks=pytest.mark.slow),
    ],
    ids=["float32", "float64"],
)
def dtype(request):
    return request.param


@pytest.fixture(scope="module")
def batch(golden_images, record, dtype):
    labels = torch.tensor(record["labels"])
    return golden_images("train.images", len(labels)).to(dtype), labels


@pytest.fixture(scope="module")
def network(record, dtype):
    network = CSSC(record["num_classes"])
    fill_module(network, "")
    return network.to(dtype).train()


@pytest.fixture(scope="module")
def passes(network, batch, running_norms):
    """One forward pass, then the backward passes of both objectives: losses, totals, gradients."""
    images, labels = batch
    out = network(images)
    statistics = running_norms(network)
    identity, triplet = identity_losses(out.logits, labels), triplet_losses(out.features, labels)
    totals = {"ce": sum(identity), "ce_tri": sum(identity) + sum(triplet)}
    gradients = {}
    for name, total in totals.items():
        network.zero_grad()
        total.backward(retain_graph=name == "ce")
        gradients[name] = {
            key: parameter.grad.clone()
            for key, parameter in network.named_parameters()
            if parameter.requires_grad
        }
    return out, statistics, identity, triplet, totals, gradients


def check_forward(found, arrays, name, dtype):
    expected = arrays[f"{name}{SUFFIX[dtype]}"]
    assert expected.size, name
    found = found.detach()[:, : expected.shape[1]].numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=FORWARD[dtype], err_msg=name)


def test_features_and_logits_of_all_heads(passes, arrays, dtype):
    out = passes[0]
    assert {name for name in arrays if name.startswith("train_feat_")} == {
        f"train_feat_{head}{suffix}" for head in HEADS for suffix in SUFFIX.values()
    }
    for head, features, logits in zip(HEADS, out.features, out.logits, strict=True):
        check_forward(features, arrays, f"train_feat_{head}", dtype)
        check_forward(logits, arrays, f"train_logits_{head}", dtype)


def test_running_statistics_after_one_pass(passes, record):
    expected = record["train_running_stats_momentum0.1"]
    assert passes[1] == {name: pytest.approx(norms, rel=1e-4) for name, norms in expected.items()}


@pytest.mark.parametrize("objective", ["ce", "ce_tri"])
def test_losses_and_gradient_norms(passes, record, dtype, objective):
    _, _, identity, triplet, totals, gradients = passes
    expected = record[f"{objective}_{NAME[dtype]}"]
    found = [loss.item() for loss in identity]
    assert found == pytest.approx(expected["id_losses"], rel=ID_LOSSES[dtype])
    found = [loss.item() for loss in triplet]
    assert found == pytest.approx(expected["tri_losses"], rel=LOSSES[dtype])
    assert totals[objective].item() == pytest.approx(expected["total"], rel=LOSSES[dtype])
    assert expected["grad_norms"]
    for name, norm in expected["grad_norms"].items():
        chosen = [
            gradient.square().sum()
            for key, gradient in gradients[objective].items()
            if key == name or key.startswith(f"{name}.")
        ]
        found = sum(chosen).sqrt().item()
        assert found == pytest.approx(norm, rel=GRADIENTS[dtype]), name


def test_total_before_three_adam_steps(record, batch, dtype):
    network = CSSC(record["num_classes"])
    fill_module(network, "")
    network = network.to(dtype).train()
    optimizer = build_optimizer(network.parameters(), OptimConfig(lr=3e-5, weight_decay=5e-4))
    losses = LossConfig()
    step = TrainingStep(network, losses, optimizer)
    images, labels = batch
    expected = record[f"{ADAM_KEY}_{NAME[dtype]}"]
    assert len(expected) == 3
    for total, tolerance in zip(expected, ADAM[dtype], strict=True):
        terms = step(images, labels, losses.start_epoch_triplet)
        assert terms["loss"].item() == pytest.approx(total, rel=tolerance)
        assert terms["loss"] == terms["loss_id"] + terms["loss_tri"]
