"""Losses on class logits against versions written with loops over plain numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from reid_core.losses import (
    arcface,
    circle,
    clothes_adversarial,
    cosface,
    label_smoothing_cross_entropy,
)

OWN = torch.tensor(  # outfits of four people
    [
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1, 1],
    ],
    dtype=torch.bool,
)
CLOTHES = torch.tensor([1, 2, 3, 5])
LABELS = torch.tensor([0, 5, 2, 2])


def cosines(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(4, 6, generator=generator, dtype=torch.float64) * 2 - 1
    return values.to(dtype).requires_grad_()


def cross_entropy(row, label):
    return math.log(sum(math.exp(value) for value in row)) - row[label]


def loop_label_smoothing(rows, labels, epsilon):
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        for index in range(len(row)):
            target = (1 - epsilon) * (index == label) + epsilon / len(row)
            total += target * cross_entropy(row, index)
    return total / len(rows)


def loop_margin(rows, labels, target_value, other_value):
    """CE where the true class's cosine goes through one function, the others through another."""
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        logits = [
            target_value(cos) if index == label else other_value(cos)
            for index, cos in enumerate(row)
        ]
        total += cross_entropy(logits, label)
    return total / len(rows)


def loop_adversarial(rows, clothes, own, scale, epsilon):
    total = 0.0
    for row, worn, mask in zip(rows, clothes, own, strict=True):
        outside = sum(
            math.exp(scale * u) for u, inside in zip(row, mask, strict=True) if not inside
        )
        count = sum(mask)
        for index, (u, inside) in enumerate(zip(row, mask, strict=True)):
            if inside:
                log_prob = scale * u - math.log(math.exp(scale * u) + outside)
                total -= ((1 - epsilon) * (index == worn) + epsilon / count) * log_prob
    return total / len(rows)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_label_smoothing(seed, epsilon):
    logits = cosines(seed) * 5
    expected = loop_label_smoothing(logits.tolist(), LABELS.tolist(), epsilon)
    found = label_smoothing_cross_entropy(logits, LABELS, epsilon=epsilon)
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("scale", "margin"), [(16, 0.0), (16, 0.35), (1, 0.0), (64, 0.1)])
@pytest.mark.parametrize("seed", range(3))
def test_cosface(seed, scale, margin):
    values = cosines(seed)
    expected = loop_margin(
        values.tolist(),
        LABELS.tolist(),
        lambda cos: scale * (cos - margin),
        lambda cos: scale * cos,
    )
    found = cosface(values, LABELS, scale=scale, margin=margin)
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("scale", "margin"), [(16, 0.0), (16, 0.5), (64, 1.2)])
@pytest.mark.parametrize("seed", range(3))
def test_arcface(seed, scale, margin):
    def target(cos):
        if cos > math.cos(math.pi - margin):
            return scale * math.cos(math.acos(cos) + margin)
        return scale * (cos - margin * math.sin(math.pi - margin))

    values = cosines(seed)
    expected = loop_margin(values.tolist(), LABELS.tolist(), target, lambda cos: scale * cos)
    found = arcface(values, LABELS, scale=scale, margin=margin)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_arcface_takes_the_line_beyond_pi():
    values = torch.tensor([[-0.95, 0.2]], dtype=torch.float64)
    shifted = -0.95 - 0.5 * math.sin(math.pi - 0.5)
    expected = cross_entropy([16 * shifted, 16 * 0.2], 0)
    found = arcface(values, torch.tensor([0]), scale=16, margin=0.5)
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("scale", "margin"), [(96, 0.3), (16, 0.0), (256, 0.25)])
@pytest.mark.parametrize("seed", range(3))
def test_circle(seed, scale, margin):
    values = cosines(seed)
    expected = loop_margin(
        values.tolist(),
        LABELS.tolist(),
        lambda cos: scale * max(1 + margin - cos, 0) * (cos - (1 - margin)),
        lambda cos: scale * max(cos + margin, 0) * (cos - margin),
    )
    found = circle(values, LABELS, scale=scale, margin=margin)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_circle_does_not_differentiate_its_weights():
    values = cosines()
    circle(values, LABELS, scale=8, margin=0.3).backward()
    weights = torch.where(F.one_hot(LABELS, 6).bool(), 1.3 - values, values + 0.3).relu()
    again = values.detach().requires_grad_()
    offset = torch.where(F.one_hot(LABELS, 6).bool(), 0.7, 0.3).double()
    F.cross_entropy(8 * weights.detach() * (again - offset), LABELS).backward()
    assert torch.allclose(values.grad, again.grad)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_clothes_adversarial(seed, epsilon):
    values = cosines(seed)
    expected = loop_adversarial(values.tolist(), CLOTHES.tolist(), OWN.tolist(), 16, epsilon)
    found = clothes_adversarial(values, CLOTHES, OWN, epsilon=epsilon)
    assert found.item() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(found, clothes_adversarial(values, CLOTHES, OWN.long(), epsilon=epsilon))


def test_clothes_adversarial_without_spread_and_with_one_outfit_each_is_cosface():
    values = cosines()
    own = F.one_hot(CLOTHES, 6).bool()
    found = clothes_adversarial(values, CLOTHES, own, epsilon=0.0)
    assert found.item() == pytest.approx(cosface(values, CLOTHES).item(), rel=1e-12)


def test_clothes_adversarial_with_no_outfit_of_others_is_zero():
    values = cosines(dtype=torch.float32)
    found = clothes_adversarial(values, CLOTHES, torch.ones(4, 6, dtype=torch.bool))
    found.backward()
    assert found.item() == 0
    assert torch.isfinite(values.grad).all()


LOSSES = {
    "label_smoothing": lambda values: label_smoothing_cross_entropy(values, LABELS),
    "cosface": lambda values: cosface(values, LABELS, scale=1e4, margin=0.5),
    "arcface": lambda values: arcface(values, LABELS, scale=64, margin=0.5),
    "arcface without margin": lambda values: arcface(values, LABELS, scale=64, margin=0.0),
    "circle": lambda values: circle(values, LABELS, scale=1e4, margin=0.5),
    "clothes_adversarial": lambda values: clothes_adversarial(values, CLOTHES, OWN, scale=1e4),
}
EXTREMES = {
    "ones": torch.ones(4, 6),
    "minus ones": -torch.ones(4, 6),
    "zeros": torch.zeros(4, 6),
    "beyond one by rounding": torch.full((4, 6), 1 + 1e-6),
    "right": F.one_hot(LABELS, 6) * 2.0 - 1,
    "wrong": 1 - F.one_hot(LABELS, 6) * 2.0,
}


@pytest.mark.parametrize("extreme", list(EXTREMES))
@pytest.mark.parametrize("name", list(LOSSES))
def test_values_and_gradients_are_finite_at_extremes(name, extreme):
    values = EXTREMES[extreme].clone().requires_grad_()
    loss = LOSSES[name](values)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(values.grad).all()


def test_label_smoothing_is_finite_for_huge_logits():
    logits = (cosines(dtype=torch.float32) * 1e30).detach().requires_grad_()
    loss = label_smoothing_cross_entropy(logits, LABELS)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", list(LOSSES))
def test_half_precision_input_is_computed_in_float32(name):
    values = cosines(dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = LOSSES[name](values)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, LOSSES[name](values.float()))
