"""The losses against loops, and their edges."""

from __future__ import annotations

import math

import pytest
import torch

from reid_core.errors import ConfigError
from reid_deskpro.losses import (
    attention_loss,
    attention_target,
    distillation_losses,
    identity_losses,
    multi_similarity,
    multi_similarity_losses,
    triplet_losses,
)

PIDS = torch.tensor([0, 0, 1, 1, 2, 2, 2])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(row):
    return row / row.norm()


def multi_similarity_by_hand(features, pids, margin):
    count = len(pids)
    s = [[float(unit(features[i]) @ unit(features[j])) for j in range(count)] for i in range(count)]
    positive = {
        (i, j)
        for i in range(count)
        for j in range(count)
        if pids[i] == pids[j] and s[i][j] < 1 - 1e-5
    }
    weakest = [
        min((s[j][k] for k in range(count) if (j, k) in positive), default=math.inf)
        for j in range(count)
    ]
    negative = {
        (i, j)
        for i in range(count)
        for j in range(count)
        if pids[i] != pids[j] and s[i][j] + margin > weakest[j]
    }
    strongest = [
        max((s[j][k] for k in range(count) if (j, k) in negative), default=-math.inf)
        for j in range(count)
    ]
    positive = {(i, j) for i, j in positive if s[i][j] - margin < strongest[j]}
    total = 0.0
    for i in range(count):
        pull = sum(math.exp(-2 * (s[i][j] - 0.5)) for j in range(count) if (i, j) in positive)
        push = sum(math.exp(40 * (s[i][j] - 0.5)) for j in range(count) if (i, j) in negative)
        total += math.log(1 + pull) / 2 + math.log(1 + push) / 40
    return total / count, len(positive), len(negative)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("margin", [0.0, 0.1, 0.7])
def test_multi_similarity(margin, seed):
    features = draw(7, 5, seed=seed)
    expected, num_positives, num_negatives = multi_similarity_by_hand(features, PIDS, margin)
    assert num_negatives > 0
    assert num_positives > 0
    found = multi_similarity(features, PIDS, margin=margin)
    assert found.item() == pytest.approx(expected, rel=1e-12)
    # Lengths do not matter.
    scaled = features * torch.arange(1, 8)[:, None]
    assert multi_similarity(scaled, PIDS, margin=margin).item() == pytest.approx(expected)


@pytest.mark.parametrize("pids", [[0] * 7, list(range(7))])
def test_multi_similarity_without_pairs(pids):
    features = draw(7, 5).requires_grad_()
    loss = multi_similarity(features, torch.tensor(pids))
    loss.backward()
    assert loss == 0
    assert not features.grad.any()


def test_multi_similarity_of_equal_rows_is_finite():
    features = torch.ones(4, 3, requires_grad=True)
    loss = multi_similarity(features, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(features.grad).all()


def test_one_loss_per_head():
    logits, features = draw(5, 7, 3), draw(3, 7, 6)
    assert len(identity_losses(logits, PIDS)) == 5
    assert len(triplet_losses(features, PIDS)) == 3
    found = multi_similarity_losses(features, PIDS, margin=0.3)
    assert list(found) == [multi_similarity(x, PIDS, margin=0.3) for x in features]
    assert len(set(found)) == 3


@pytest.mark.parametrize("epsilon", [0, 0.1, 0.4])
def test_label_smoothing(epsilon):
    logits = draw(7, 3)
    expected = 0
    for row, pid in zip(logits, PIDS.tolist(), strict=True):
        for number in range(3):
            share = (1 - epsilon) * (number == pid) + epsilon / 3
            expected -= share * (row[number] - row.exp().sum().log()) / 7
    (found,) = identity_losses([logits], PIDS, epsilon=epsilon)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("margin", [0, 0.3, 0.7])
def test_triplet(margin):
    features = draw(7, 4)
    total = 0
    for anchor, pid in zip(features, PIDS, strict=True):
        distances = [(anchor - other).norm().item() for other in features]
        farthest = max(d for d, p in zip(distances, PIDS, strict=True) if p == pid)
        nearest = min(d for d, p in zip(distances, PIDS, strict=True) if p != pid)
        excess = farthest - nearest
        total += math.log(1 + math.exp(excess)) if margin == 0 else max(0, excess + margin)
    (found,) = triplet_losses([features], PIDS, margin=margin)
    assert found.item() == pytest.approx(total / 7, rel=1e-6)


@pytest.mark.parametrize("temperature", [1, 5])
def test_distillation(temperature):
    student, teacher = draw(2, 7, 3).requires_grad_(), draw(2, 7, 3, seed=1).requires_grad_()
    found = distillation_losses(student.unbind(), teacher.unbind(), temperature=temperature)
    for loss, own, known in zip(found, student, teacher, strict=True):
        p, q = (known / temperature).softmax(1), (own / temperature).softmax(1)
        expected = temperature**2 * (p * (p / q).log()).sum() / 7
        assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    sum(found).backward()
    assert student.grad.any()
    assert teacher.grad is None


def test_a_student_that_knows_it_all():
    logits = draw(2, 7, 3)
    found = distillation_losses(logits, logits, temperature=5)
    assert [loss.item() for loss in found] == pytest.approx([0, 0], abs=1e-15)


def test_heads_go_in_pairs():
    with pytest.raises(ValueError, match="shorter"):
        distillation_losses(draw(2, 7, 3), draw(1, 7, 3), temperature=1)


def test_the_target_is_the_middle_of_each_cell():
    masks = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    found = attention_target(masks, (8, 4))
    cells = masks[:, :1].reshape(2, 1, 8, 8, 4, 8)
    expected = cells[:, :, :, 3:5, :, 3:5].mean(dim=(3, 5))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("floor", "expected"), [("exact", [0.1, 0.05, 1.0]), ("clamp", [0.1, 0.1, 1.0])]
)
def test_the_floor(floor, expected):
    masks = torch.tensor([0.0, 0.05, 1.0]).view(1, 1, 1, 3)
    found = attention_target(masks, (1, 3), floor=floor)
    assert found.flatten().tolist() == pytest.approx(expected)
    assert masks[0, 0, 0, 0] == 0, "the masks are not changed"


def test_unknown_floor():
    with pytest.raises(ConfigError, match=r"unknown mask_floor 'x'; choose one of exact, clamp"):
        attention_target(torch.zeros(1, 1, 2, 2), (1, 1), floor="x")


def test_the_attention_loss_is_a_mean():
    attention, target = draw(2, 1, 4, 3).sigmoid(), draw(2, 1, 4, 3, seed=1).sigmoid()
    expected = sum((a - b) ** 2 for a, b in zip(attention.flatten(), target.flatten(), strict=True))
    assert attention_loss(attention, target).item() == pytest.approx(expected.item() / 24)


def test_half_precision_is_widened():
    half = draw(7, 3).half()
    losses = [
        *distillation_losses([half], [half + 1], temperature=5),
        *identity_losses([half], PIDS),
        *triplet_losses([half], PIDS),
        multi_similarity(half, PIDS),
        attention_loss(half.sigmoid(), half.sigmoid()),
    ]
    assert {loss.dtype for loss in losses} == {torch.float32}
