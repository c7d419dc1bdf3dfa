"""Learning rates of the three groups of parameters, epoch by epoch."""

from dataclasses import replace

import pytest

from reid_agw.config import AGWConfig
from reid_agw.model import AGW
from reid_agw.recipe import build_optimizer_of
from reid_core.engine import build_schedule

TOLERANCE = 1e-9  # golden README
COLUMNS = ["backbone_and_nonlocal", "bottleneck", "classifier"]


@pytest.fixture(scope="module")
def record(golden):
    return golden.json("lr_schedule.json")


def learning_rates(record, first_epoch=0):
    config = replace(AGWConfig().optim, lr=record["base_lr"])
    optimizer = build_optimizer_of(AGW(2, backbone="resnet10"), config)
    schedule = build_schedule(optimizer, config, first_epoch)
    rates = []
    for _ in range(first_epoch, len(record["epochs_0_to_80"])):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return rates


def test_every_epoch(record):
    assert record["columns"] == COLUMNS
    expected = record["epochs_0_to_80"]
    assert len(expected) == AGWConfig().epochs
    for found, rates in zip(learning_rates(record), expected, strict=True):
        assert found == pytest.approx(rates, rel=TOLERANCE)


@pytest.mark.parametrize("first_epoch", [1, 9, 10, 20, 49, 50, 80])
def test_continued_from_an_official_checkpoint(record, first_epoch):
    expected = record["epochs_0_to_80"][first_epoch:]
    for found, rates in zip(learning_rates(record, first_epoch), expected, strict=True):
        assert found == pytest.approx(rates, rel=TOLERANCE)


def test_groups_hold_every_trained_parameter_once():
    model = AGW(2, backbone="resnet10")
    optimizer = build_optimizer_of(model, AGWConfig().optim)
    backbone, bottleneck, classifier = (group["params"] for group in optimizer.param_groups)
    trained = [item for item in model.parameters() if item.requires_grad]
    assert sorted(map(id, (*backbone, *bottleneck, *classifier))) == sorted(map(id, trained))
    assert [id(item) for item in bottleneck] == [id(model.bottleneck.weight)]
    assert [id(item) for item in classifier] == [id(model.classifier.weight)]
    for group in optimizer.param_groups:
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 5e-4)
