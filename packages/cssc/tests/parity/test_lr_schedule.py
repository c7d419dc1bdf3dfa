"""Learning rates, epoch by epoch."""

import pytest
import torch

from reid_core.config import OptimConfig
from reid_core.engine import build_schedule

TOLERANCE = 1e-12  # golden README


@pytest.fixture(scope="module")
def record(golden):
    return golden.shared_json("lr_schedule.json")


def learning_rates(record, first_epoch=0):
    config = OptimConfig(
        lr=record["base_lr"],
        milestones=tuple(record["milestones"]),
        gamma=record["gamma"],
        warmup_epochs=record["warmup_epochs"],
        warmup_factor=record["warmup_factor"],
    )
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=config.lr)
    schedule = build_schedule(optimizer, config, first_epoch)
    rates = []
    for _ in range(first_epoch, record["max_epoch"]):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_every_epoch(record):
    expected = record["lr_for_epoch_1_to_120"]
    assert learning_rates(record) == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("first_epoch", [1, 9, 10, 30, 59, 60, 119])
def test_continued_from_an_official_checkpoint(record, first_epoch):
    expected = record["lr_for_epoch_1_to_120"][first_epoch:]
    assert learning_rates(record, first_epoch) == pytest.approx(expected, rel=TOLERANCE)
