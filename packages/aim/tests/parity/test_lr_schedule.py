"""Learning rates of the three optimisers, epoch by epoch."""

import pytest
import torch

from reid_aim.recipe import build_schedules
from reid_aim.step import AIMOptimizers
from reid_core.config import OptimConfig


def learning_rates(first_epoch, num_epochs):
    config = OptimConfig()
    optimizers = AIMOptimizers(
        *(torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=config.lr) for _ in range(3))
    )
    schedules = build_schedules(optimizers, config, first_epoch)
    rates = []
    for _ in range(first_epoch, num_epochs):
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers])
        for optimizer in optimizers:
            optimizer.step()
        for schedule in schedules:
            schedule.step()
    return rates


@pytest.fixture(scope="module")
def record(golden):
    return golden.shared_json("lr_schedule.json")


def test_every_epoch(record):
    main, classifier = official(record)
    rates = learning_rates(0, len(main))
    assert [rate[0] for rate in rates] == pytest.approx(main, rel=1e-12)
    assert [rate[1] for rate in rates] == pytest.approx(main, rel=1e-12)
    assert [rate[2] for rate in rates] == pytest.approx(classifier, rel=1e-12)


@pytest.mark.parametrize("first_epoch", [1, 19, 20, 21, 40, 55])
def test_continued_from_an_official_checkpoint(record, first_epoch):
    main, _ = official(record)
    rates = learning_rates(first_epoch, len(main))
    assert [rate[0] for rate in rates] == pytest.approx(main[first_epoch:], rel=1e-12)


def official(record):
    return record["lr_main_and_branch2_per_epoch0"], record[CLASSIFIER]


CLASSIFIER = "lr_clothes_classifier_per_epoch0"
