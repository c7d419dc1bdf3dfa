"""schedule.json: mixing rate and learning rates, cycle by cycle."""

from __future__ import annotations

import pytest
import torch

from reid_iics.model import IICS, Head
from reid_iics.schedule import inter_lr, mixing_rate
from reid_iics.step import build_optimizer

TOLERANCE = 1e-15  # golden README

MIXING_RATES = {
    "mix_rate_per_cycle(mu=0.02,T=40,power=0.6)": {"initial": 0.02, "power": 0.6},
    "mix_rate_mu0.1_T10_power1": {"initial": 0.1, "power": 1.0},
}
LR, INTER_BATCH = 0.005, 64  # spec: head of the intra-camera stage, batch of the other


@pytest.fixture(scope="module")
def record(golden):
    return golden.shared_json("schedule.json")


@pytest.mark.parametrize("name", MIXING_RATES)
def test_mixing_rate(record, name):
    expected = record[name]
    found = [
        mixing_rate(cycle, num_cycles=len(expected), **MIXING_RATES[name])
        for cycle in range(len(expected))
    ]
    assert found == pytest.approx(expected, rel=TOLERANCE)


def test_mixing_rate_by_default(record):
    expected = record["mix_rate_per_cycle(mu=0.02,T=40,power=0.6)"]
    found = [mixing_rate(cycle, num_cycles=len(expected)) for cycle in range(len(expected))]
    assert found == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize(("stage", "lr"), [(1, LR), (2, inter_lr(LR, INTER_BATCH))])
def test_learning_rates(record, stage, lr):
    with torch.device("meta"):
        optimizer = build_optimizer(IICS(), Head(2048, 2), lr=lr, weight_decay=5e-4)
    backbone, head = (group["lr"] for group in optimizer.param_groups)
    for part, found in (("backbone", backbone), ("head", head)):
        expected = record[f"lr_stage{stage}_{part}"]
        assert [found] * len(expected) == pytest.approx(expected, rel=TOLERANCE)


def test_nothing_of_the_file_is_left_out(record):
    rates = {f"lr_stage{stage}_{part}" for stage in (1, 2) for part in ("backbone", "head")}
    assert set(record) - {"note"} == set(MIXING_RATES) | rates
