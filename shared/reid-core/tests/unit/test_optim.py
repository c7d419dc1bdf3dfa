"""Optimisers and learning-rate schedules from the settings."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reid_core.config import OptimConfig
from reid_core.engine import ParameterGroup, build_optimizer, build_schedule, lr_factor
from reid_core.errors import ConfigError


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3), requires_grad=False)]


def rates(config: OptimConfig, epochs: int, first_epoch: int = 0) -> list[float]:
    optimizer = build_optimizer(parameters(), config)
    schedule = build_schedule(optimizer, config, first_epoch)
    found = []
    for _ in range(first_epoch, epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_steps_without_warmup() -> None:
    config = OptimConfig(lr=1.0, milestones=(2, 4), gamma=0.5)
    assert rates(config, 6) == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_linear_warmup_reaches_the_full_rate_after_its_epochs() -> None:
    config = OptimConfig(lr=2.0, milestones=(5,), warmup_epochs=4, warmup_factor=0.2)
    assert rates(config, 7) == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 0.2, 0.2])


def test_constant_warmup_jumps() -> None:
    config = OptimConfig(
        lr=2.0, milestones=(), warmup_epochs=2, warmup_factor=0.1, warmup_method="constant"
    )
    assert rates(config, 4) == pytest.approx([0.2, 0.2, 2.0, 2.0])


def test_milestones_inside_the_warmup_count() -> None:
    config = OptimConfig(lr=1.0, milestones=(1,), gamma=0.1, warmup_epochs=2, warmup_factor=0.5)
    assert rates(config, 3) == pytest.approx([0.5, 0.075, 0.1])


@pytest.mark.parametrize("first_epoch", [1, 3, 5])
def test_training_goes_on_at_its_epoch(first_epoch: int) -> None:
    config = OptimConfig(milestones=(2, 4), warmup_epochs=3)
    assert rates(config, 6, first_epoch) == rates(config, 6)[first_epoch:]


def test_a_restored_schedule_goes_on() -> None:
    config = OptimConfig(milestones=(2, 4), warmup_epochs=3)
    optimizer = build_optimizer(parameters(), config)
    schedule = build_schedule(optimizer, config)
    for _ in range(2):
        optimizer.step()
        schedule.step()
    again = build_optimizer(parameters(), config)
    restored = build_schedule(again, config)
    again.load_state_dict(optimizer.state_dict())
    restored.load_state_dict(schedule.state_dict())
    again.step()
    restored.step()
    assert again.param_groups[0]["lr"] == config.lr * lr_factor(config, 3)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)],
)
def test_kinds_of_optimiser(name: str, kind: type) -> None:
    optimizer = build_optimizer(parameters(), OptimConfig(name=name, lr=0.5, weight_decay=0.25))
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
    assert [len(parameter) for parameter in group["params"]] == [2]  # the frozen one is left out
    if name == "sgd":
        assert (group["momentum"], group["nesterov"]) == (0.9, True)


@pytest.mark.parametrize("first_epoch", [0, 3])
def test_groups_keep_their_share_of_the_learning_rate(first_epoch: int) -> None:
    config = OptimConfig(name="sgd", lr=0.5, milestones=(2, 4), warmup_epochs=1)
    body, head = parameters(), parameters()
    optimizer = build_optimizer([ParameterGroup(body, 0.1), ParameterGroup(head)], config)
    schedule = build_schedule(optimizer, config, first_epoch)
    for epoch in range(first_epoch, 6):
        full = config.lr * lr_factor(config, epoch)
        found = [group["lr"] for group in optimizer.param_groups]
        assert found == pytest.approx([0.1 * full, full])
        optimizer.step()
        schedule.step()
    # The frozen ones are left out.
    assert [group["params"] for group in optimizer.param_groups] == [body[:1], head[:1]]


def test_one_group_without_shares_is_pytorchs_own() -> None:
    # Official checkpoints hold such a state; nothing may be added to it.
    ours = build_optimizer(parameters(), OptimConfig(name="adam", lr=0.5, weight_decay=0.25))
    plain = torch.optim.Adam(parameters()[:1], lr=0.5, weight_decay=0.25)
    assert ours.state_dict() == plain.state_dict()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"warmup_epochs": -1}, "optim.warmup_epochs=-1 must not be negative"),
        ({"warmup_factor": 0.0}, r"optim.warmup_factor=0.0 must lie in \(0, 1\]"),
        ({"warmup_factor": 1.5}, r"optim.warmup_factor=1.5 must lie in \(0, 1\]"),
        ({"milestones": (4, 2)}, "must be rising epochs"),
        ({"gamma": 0.0}, "optim.gamma=0.0"),
    ],
)
def test_ranges(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OptimConfig(**values)
