"""lr_schedule.json: the base rate, and the rate of every epoch."""

import pytest
import torch

from reid_deskpro.config import DeskProConfig
from reid_deskpro.stage import build_optimizer_of, build_schedule_of
from reid_deskpro.stage_config import CosineConfig

TOLERANCE = 1e-15  # golden README


@pytest.fixture(scope="module")
def record(golden):
    return golden.json("lr_schedule.json")


def rates(config, count, first_epoch=0):
    optimizer = build_optimizer_of(torch.nn.Linear(1, 1), config)
    schedule = build_schedule_of(optimizer, config, first_epoch)
    found = []
    for _ in range(first_epoch, count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_every_epoch_of_the_readme(record):
    expected = record["lr_per_epoch_0_to_999"]
    config = DeskProConfig()
    assert (config.epochs, config.optim.warmup_epochs) == (
        *(record["epochs_cfg"], record["warmup_epochs"]),
    )
    assert rates(config, len(expected)) == pytest.approx(expected, rel=0, abs=TOLERANCE)
    assert min(expected[: config.epochs]) == pytest.approx(record["eta_min"], abs=TOLERANCE)


def test_short_example(record):
    example = record["short_example"]
    (expected,) = [value for value in example.values() if isinstance(value, list)]
    config = DeskProConfig(epochs=example["epochs_cfg"], optim=CosineConfig(lr=example["base_lr"]))
    assert rates(config, len(expected)) == pytest.approx(expected, rel=0, abs=TOLERANCE)


@pytest.mark.parametrize("first_epoch", [1, 9, 10, 77, 139])
def test_continued_from_an_official_checkpoint(record, first_epoch):
    expected = record["lr_per_epoch_0_to_999"][first_epoch:140]
    found = rates(DeskProConfig(), 140, first_epoch)
    assert found == pytest.approx(expected, rel=0, abs=TOLERANCE)


def test_base_rate(record):
    rule = record["base_lr_rule"]
    assert rule
    for row in rule:
        size = row["batchid"] * row["batchimage"]
        assert CosineConfig().optimizer(size).lr == pytest.approx(row["lr"], abs=TOLERANCE)
    assert CosineConfig().optimizer(30).lr == pytest.approx(record["base_lr"], abs=TOLERANCE)
