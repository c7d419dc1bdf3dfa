"""AIM's own loss terms, and its choices by name."""

from __future__ import annotations

import math

import pytest
import torch

from reid_aim.losses import (
    clothes_loss,
    counterfactual_logits,
    identity_loss,
    pair_loss,
    symmetric_kl,
)
from reid_core import losses as core
from reid_core.errors import ConfigError
from reid_core.models import Classifier

LABELS = torch.tensor([0, 2, 1])


@pytest.fixture
def cosines():
    torch.manual_seed(0)
    return torch.rand(3, 4, dtype=torch.float64) * 2 - 1


def loop_softmax(row):
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def test_symmetric_kl_against_a_loop(cosines):
    targets = cosines.flip(1) * 3
    expected = 0.0
    for row, target in zip(cosines.tolist(), targets.tolist(), strict=True):
        p, q = loop_softmax(row), loop_softmax(target)
        expected += sum(
            a * math.log(a / b) + b * math.log(b / a) for a, b in zip(p, q, strict=True)
        )
    assert symmetric_kl(cosines, targets).item() == pytest.approx(expected, rel=1e-12)
    mean = symmetric_kl(cosines, targets, reduction="batchmean")
    assert mean.item() == pytest.approx(expected / 3, rel=1e-12)


def test_symmetric_kl_is_zero_for_equal_distributions(cosines):
    assert symmetric_kl(cosines, cosines + 5).item() == pytest.approx(0, abs=1e-14)


def test_symmetric_kl_treats_the_target_as_a_constant(cosines):
    first, second = cosines.clone().requires_grad_(), cosines.flip(0).requires_grad_()
    symmetric_kl(first, second).backward()
    assert first.grad.any()
    assert second.grad is None


def test_symmetric_kl_is_finite_where_probabilities_underflow():
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = symmetric_kl(logits, -logits.detach())
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_symmetric_kl_in_half_precision_is_computed_in_float32(cosines):
    halves = cosines.bfloat16(), cosines.flip(0).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = symmetric_kl(*halves)
    assert torch.equal(loss, symmetric_kl(*(half.float() for half in halves)))


def test_bias_cancels_in_the_counterfactual_logits():
    classifier = Classifier(6, 4)
    features, fused = torch.randn(3, 6), torch.randn(3, 6)
    loss = identity_loss(counterfactual_logits(classifier(features), classifier(fused)), LABELS)
    loss.backward()
    assert classifier.classifier.bias.grad.abs().max() < 1e-7
    assert classifier.classifier.weight.grad.any()


def test_identity_losses_by_name(cosines):
    expected = {
        "label_smoothing": core.label_smoothing_cross_entropy(cosines, LABELS, epsilon=0.2),
        "arcface": core.arcface(cosines, LABELS, scale=8, margin=0.3),
        "cosface": core.cosface(cosines, LABELS, scale=8, margin=0.3),
        "circle": core.circle(cosines, LABELS, scale=8, margin=0.3),
    }
    found = {
        kind: identity_loss(cosines, LABELS, kind=kind, epsilon=0.2, scale=8, margin=0.3)
        for kind in expected
    }
    assert found == expected
    assert len({value.item() for value in found.values()}) == len(found)


def test_clothes_losses_by_name(cosines):
    assert clothes_loss(cosines, LABELS, scale=8) == core.cosface(cosines, LABELS, scale=8)
    unscaled = torch.nn.functional.cross_entropy(cosines, LABELS)
    assert clothes_loss(cosines, LABELS, kind="cross_entropy", scale=8) == unscaled


def test_pair_losses_by_name():
    torch.manual_seed(0)
    features, pids = torch.randn(6, 5), torch.tensor([0, 0, 1, 1, 2, 2])
    expected = {
        "triplet": core.batch_hard_triplet(features, pids, margin=0.2),
        "contrastive": core.contrastive(features, pids, scale=8),
        "cosface": core.pairwise_cosface(features, pids, scale=8, margin=0.2),
        "circle": core.pairwise_circle(features, pids, scale=8, margin=0.2),
    }
    found = {kind: pair_loss(features, pids, kind=kind, scale=8, margin=0.2) for kind in expected}
    assert found == expected
    assert len({value.item() for value in found.values()}) == len(found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: identity_loss(x, LABELS, kind="ce"), r"unknown identity loss 'ce'; .*arcface"),
        (lambda x: clothes_loss(x, LABELS, kind="ce"), r"unknown clothes loss 'ce'; .*cosface"),
        (lambda x: pair_loss(x, LABELS, kind="wrt"), r"unknown pair loss 'wrt'; .*triplet"),
        (lambda x: symmetric_kl(x, x, reduction="mean"), r"unknown KL reduction 'mean'; .*sum"),
    ],
)
def test_unknown_names(call, message, cosines):
    with pytest.raises(ConfigError, match=message):
        call(cosines)
