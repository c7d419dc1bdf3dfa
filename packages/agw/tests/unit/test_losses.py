"""The triplet losses of AGW against loops, and where the official formula overflows."""

from __future__ import annotations

import math

import pytest
import torch

from reid_agw.losses import batch_hard, weighted_regularized_triplet
from reid_core.losses import batch_hard_triplet_euclidean

PIDS = [
    [0, 0, 1, 1, 0, 0, 1, 1],
    [3, 1, 3, 3, 3, 7, 1, 3],
    [0, 1, 2, 3, 4, 5, 6, 7],
]


def draw(scale=1.0, count=8, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, dim, dtype=torch.float64, generator=generator)


def loop_distances(rows):
    def distance(f, g):
        square = sum(a * a for a in f) + sum(b * b for b in g)
        square -= 2 * sum(a * b for a, b in zip(f, g, strict=True))
        return math.sqrt(max(square, 1e-12))

    return [[distance(f, g) for g in rows] for f in rows]


def loop_wrt(rows, pids, eps=1e-6):
    """The loss exactly as the specification words it, anchor by anchor."""
    losses, correct = [], 0
    for i, row in enumerate(loop_distances(rows)):
        same = [d for d, pid in zip(row, pids, strict=True) if pid == pids[i]]
        other = [d for d, pid in zip(row, pids, strict=True) if pid != pids[i]]
        weights = [math.exp(d - max(same)) for d in same]
        positive = sum(w * d for w, d in zip(weights, same, strict=True)) / (sum(weights) + eps)
        weights = [math.exp(-d) for d in other]
        negative = sum(w * d for w, d in zip(weights, other, strict=True)) / (sum(weights) + eps)
        losses.append(math.log(1 + math.exp(positive - negative)))
        correct += negative >= positive
    return sum(losses) / len(losses), correct


@pytest.mark.parametrize("scale", [0.01, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("pids", PIDS)
def test_wrt_against_a_loop(pids, scale):
    features = draw(scale)
    found = weighted_regularized_triplet(features, torch.tensor(pids))
    loss, correct = loop_wrt(features.tolist(), pids)
    assert found.loss.item() == pytest.approx(loss, rel=1e-9)
    assert found.correct.item() == correct


def test_wrt_of_rows_of_length_one():
    features, pids = draw(7.0), PIDS[1]
    found = weighted_regularized_triplet(features, torch.tensor(pids), normalize=True)
    unit = (features / features.norm(dim=1, keepdim=True)).tolist()
    assert found.loss.item() == pytest.approx(loop_wrt(unit, pids)[0], rel=1e-7)


def test_wrt_gradient_flows_through_the_weights():
    features = draw(1.5).requires_grad_()
    pids = torch.tensor(PIDS[1])
    assert torch.autograd.gradcheck(
        lambda x: weighted_regularized_triplet(x, pids).loss, [features + 0]
    )


def test_far_negatives_are_pulled_in():
    """The 1e-6 beside the weights bounds the scale: a clean softmax would push them away."""
    features = torch.tensor([[0.0, 0.0], [0.1, 0.0], [30.0, 0.0], [30.1, 0.0]]).double()
    features.requires_grad_()
    weighted_regularized_triplet(features, torch.tensor([0, 0, 1, 1])).loss.backward()
    step = -features.grad
    assert step[:2, 0].sum() > 0 > step[2:, 0].sum()


def test_one_identity_alone():
    features, pids = draw(), torch.zeros(8, dtype=torch.long)
    found = weighted_regularized_triplet(features, pids)
    assert found.loss.item() == pytest.approx(loop_wrt(features.tolist(), pids.tolist())[0])
    assert found.correct == 0
    assert batch_hard(features, pids).loss == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("norm", [1.0, 80.0, 1e3, 1e4])
@pytest.mark.parametrize("autocast", [False, True])
def test_wrt_is_finite_for_long_features(norm, dtype, autocast):
    rows = draw(count=16, dim=64)
    features = (norm * rows / rows.norm(dim=1, keepdim=True)).to(dtype)
    exact = features.double().requires_grad_()
    pids = torch.arange(8).repeat(2)
    expected = weighted_regularized_triplet(exact, pids)
    expected.loss.backward()
    features.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = weighted_regularized_triplet(features, pids)
    found.loss.backward()
    assert found.loss.dtype == torch.float32
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-4)
    assert found.correct == expected.correct
    assert torch.isfinite(features.grad).all()
    step = 2**-7 if dtype == torch.bfloat16 else 1e-3
    limit = step * exact.grad.abs().max()
    assert (features.grad.double() - exact.grad).abs().max() <= limit


def test_wrt_equals_the_official_formula_where_that_is_finite():
    """And where it is not: log(1 + exp(x)) of float32 is infinite above 88.7."""
    for norm, official_is_finite in ((20.0, True), (200.0, False)):
        rows = draw(count=16, dim=64).float()
        features = norm * rows / rows.norm(dim=1, keepdim=True)
        distances = (features[:, None] - features[None]).norm(dim=2)
        pids = torch.arange(8).repeat(2)
        same = pids[:, None] == pids[None, :]
        excess = (distances * same).max(dim=1).values  # of the anchors; negatives are far: n_i = 0
        official = (1 + excess.exp()).log().mean()
        found = weighted_regularized_triplet(features, pids).loss
        assert torch.isfinite(found)
        assert torch.isfinite(official) == official_is_finite
        if official_is_finite:
            assert found.item() == pytest.approx(official.item(), rel=1e-3)


def test_repeated_images_have_finite_gradients():
    """The sampler draws with replacement: two rows of a batch may be equal."""
    features = draw(count=4).float()[[0, 0, 1, 1, 2, 2, 3, 3]].requires_grad_()
    pids = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    for loss in (weighted_regularized_triplet, batch_hard):
        features.grad = None
        loss(features, pids).loss.backward()
        assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("pids", PIDS)
def test_batch_hard_against_a_loop(pids):
    features = draw()
    found = batch_hard(features, torch.tensor(pids), margin=0.7)
    losses, correct = [], 0
    for i, row in enumerate(loop_distances(features.tolist())):
        positive = max(d for d, pid in zip(row, pids, strict=True) if pid == pids[i])
        negative = min(d for d, pid in zip(row, pids, strict=True) if pid != pids[i])
        losses.append(max(0, positive - negative + 0.7))
        correct += negative >= positive
    assert found.loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-9)
    assert found.correct.item() == correct
    shared = batch_hard_triplet_euclidean(features, torch.tensor(pids), margin=0.7)
    assert found.loss == shared
