"""The losses of both stages: loop references and edges."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from reid_iics.losses import identity_loss, triplet_loss


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_identity_loss_is_plain_cross_entropy():
    logits, labels = torch.randn(5, 4), torch.tensor([0, 3, 3, 1, 2])
    rows = zip(logits.log_softmax(dim=1).tolist(), labels.tolist(), strict=True)
    expected = sum(-row[label] for row, label in rows) / 5
    assert identity_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("margin", [0.0, 0.3, 5.0])
@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 7], [4, 3, 2, 1, 0, 5]])
def test_triplet_loss_against_a_loop(labels, margin):
    features = torch.randn(6, 3, dtype=torch.float64)
    rows = features.tolist()
    losses, right = [], 0
    for i, own in enumerate(labels):
        same = [math.dist(rows[i], row) for j, row in enumerate(rows) if labels[j] == own]
        other = [math.dist(rows[i], row) for j, row in enumerate(rows) if labels[j] != own]
        losses.append(max(0.0, max(same) - min(other) + margin))
        right += min(other) > max(same)
    loss, precision = triplet_loss(features, torch.tensor(labels), margin=margin)
    # The distance of an anchor to itself is 1e-6.
    assert loss.item() == pytest.approx(sum(losses) / 6, abs=1e-6)
    assert precision.item() == pytest.approx(right / 6)


def test_features_are_not_normalised():
    features, labels = torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 2, 2])
    loss = triplet_loss(features, labels, margin=0).loss
    assert loss > 0
    assert torch.allclose(triplet_loss(10 * features, labels, margin=0).loss, 10 * loss)


def test_one_cluster_alone():
    features = torch.randn(4, 3, requires_grad=True)
    loss, precision = triplet_loss(features, torch.zeros(4, dtype=torch.long))
    loss.backward()
    assert (loss.item(), precision.item()) == (0, 1)
    assert not features.grad.any()


def test_equal_images_have_a_finite_gradient():
    features = torch.randn(2, 3).repeat_interleave(2, dim=0).requires_grad_()
    triplet_loss(features, torch.tensor([0, 0, 1, 1]), margin=9.0).loss.backward()
    assert torch.isfinite(features.grad).all()


def test_float32_under_autocast():
    features, logits, labels = torch.randn(4, 3), torch.randn(4, 2), torch.tensor([0, 0, 1, 1])
    with torch.autocast("cpu", torch.bfloat16):
        found = triplet_loss(features.bfloat16(), labels)
        identity = identity_loss(logits.bfloat16(), labels)
    assert found.loss.dtype == found.precision.dtype == identity.dtype == torch.float32
    expected = triplet_loss(features.bfloat16().float(), labels)
    assert torch.equal(found.loss, expected.loss)
    assert torch.equal(identity, F.cross_entropy(logits.bfloat16().float(), labels))
