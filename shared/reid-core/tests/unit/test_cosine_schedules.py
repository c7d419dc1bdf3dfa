"""Learning rates on a cosine, with and without a warm-up."""

import math

import pytest
import torch

from reid_core.config import OptimConfig
from reid_core.engine import (
    ParameterGroup,
    build_optimizer,
    cosine_factor,
    follow_schedule,
    warmup_cosine_factor,
)


def test_the_cosine_falls_from_one_to_zero():
    found = [cosine_factor(epoch, epochs=4) for epoch in range(5)]
    expected = [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]
    assert found == pytest.approx(expected, abs=1e-15)


def test_the_warm_up_rises_to_one_and_the_cosine_ends_at_the_floor():
    found = [
        warmup_cosine_factor(epoch, epochs=9, warmup_epochs=4, floor=0.1) for epoch in range(9)
    ]
    assert found[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    middle = 0.1 + 0.9 / 2  # epoch 6 is half way from 4 to 8
    assert found[6] == pytest.approx(middle)
    assert found[8] == pytest.approx(0.1)
    assert found[4:] == sorted(found[4:], reverse=True)


def test_beyond_the_last_epoch_the_rate_falls_along_a_line():
    last = warmup_cosine_factor(20, epochs=20, warmup_epochs=10)
    found = [warmup_cosine_factor(epoch, epochs=20, warmup_epochs=10) for epoch in (270, 520)]
    assert found == pytest.approx([(last + 1e-3) / 2, 1e-3])


@pytest.mark.parametrize(("epochs", "warmup_epochs"), [(1, 0), (1, 10), (2, 1), (11, 10)])
def test_short_trainings_have_a_rate(epochs, warmup_epochs):
    for epoch in range(epochs):
        factor = warmup_cosine_factor(epoch, epochs=epochs, warmup_epochs=warmup_epochs)
        assert 0 < factor <= 1


@pytest.mark.parametrize("first_epoch", [0, 3])
def test_every_group_follows_from_its_own_rate(first_epoch):
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [ParameterGroup(parameters[:1]), ParameterGroup(parameters[1:], 0.5)]
    optimizer = build_optimizer(groups, OptimConfig(lr=0.2))
    schedule = follow_schedule(optimizer, 0.2, lambda epoch: 1 / (epoch + 1), first_epoch)
    for epoch in range(first_epoch, first_epoch + 3):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([0.2 / (epoch + 1), 0.1 / (epoch + 1)])
        optimizer.step()
        schedule.step()
