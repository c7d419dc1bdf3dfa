"""Which losses the heads have, and when."""

from __future__ import annotations

import copy

import pytest
import torch

from reid_core.config import OptimConfig
from reid_core.engine.optimizers import build_optimizer
from reid_core.losses import batch_hard_triplet_euclidean, label_smoothing_cross_entropy
from reid_cssc.config import LossConfig
from reid_cssc.losses import identity_losses, triplet_losses
from reid_cssc.model import CSSC, HEADS
from reid_cssc.step import TrainingStep

PIDS = torch.tensor([0, 0, 1, 1])


@pytest.fixture(scope="module")
def images():
    return torch.randn(4, 3, 128, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return CSSC(2, backbone="resnet10")


def make_step(network, **changes):
    optimizer = build_optimizer(network.parameters(), OptimConfig(lr=1e-3))
    return TrainingStep(network.train(), LossConfig(**changes), optimizer)


def test_one_loss_per_head_with_its_own_settings():
    torch.manual_seed(0)
    logits, features = torch.randn(5, 4, 2), torch.randn(5, 4, 6)
    found = identity_losses(logits, PIDS, epsilon=0.3)
    assert list(found) == [label_smoothing_cross_entropy(x, PIDS, epsilon=0.3) for x in logits]
    found = triplet_losses(features, PIDS, margin=0.7)
    assert list(found) == [batch_hard_triplet_euclidean(x, PIDS, margin=0.7) for x in features]
    assert len(set(found)) == len(HEADS)


@pytest.mark.parametrize(("epoch", "in_force"), [(0, False), (2, False), (3, True), (9, True)])
def test_the_triplet_losses_join_from_their_first_epoch(network, images, epoch, in_force):
    terms = make_step(network, start_epoch_triplet=3)(images, PIDS, epoch)
    expected = terms["loss_id"] + terms["loss_tri"] if in_force else terms["loss_id"]
    assert terms["loss"] == expected
    assert terms["loss_tri"] > 0


def test_every_head_is_logged_and_adds_up(network, images):
    terms = make_step(network)(images, PIDS, 0)
    expected = {"loss", "loss_id", "loss_tri"}
    expected |= {f"{kind}_{head}" for kind in ("loss_id", "loss_tri", "acc") for head in HEADS}
    assert set(terms) == expected
    for kind in ("loss_id", "loss_tri"):
        total = sum(terms[f"{kind}_{head}"] for head in HEADS)
        assert terms[kind].item() == pytest.approx(total.item(), rel=1e-6)
    assert not any(value.requires_grad for value in terms.values())


def test_a_step_trains_all_but_the_frozen_shifts(network, images):
    before = copy.deepcopy(network.state_dict())
    make_step(network)(images, PIDS, 0)
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


def test_the_settings_reach_the_losses(network, images):
    plain = make_step(copy.deepcopy(network))(images, PIDS, 0)
    changed = make_step(copy.deepcopy(network), label_smoothing=0.5, triplet_margin=9.0)
    terms = changed(images, PIDS, 0)
    assert terms["loss_tri"] > plain["loss_tri"] + 5 * 8
    assert terms["loss_id"] != plain["loss_id"]
