"""Sampler and random erasing against the official implementation."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from reid_agw.config import PRESETS
from reid_core.data.augment_draws import draw_erase
from reid_core.data.cross_modality_sampler import CrossModalitySampler
from reid_core.data.sample import Sample

HEIGHT, WIDTH = 288, 144  # golden README


@pytest.fixture(scope="module")
def record(golden):
    return golden.json("sampler.json")


@pytest.fixture(scope="module")
def sampler(record):
    labels = {"visible": record["visible_labels"], "infrared": record["thermal_labels"]}
    samples = [
        Sample(Path(f"{modality}{row}"), pid, 0, modality=modality)
        for modality, pids in labels.items()
        for row, pid in enumerate(pids)
    ]
    size = record["num_pos"]
    return CrossModalitySampler(samples, 2 * record["batch_ids"] * size, size, record["seed"])


def split(order, record):
    """Return visible and infrared indices, each from 0, in the order of the batches."""
    halves = order.reshape(-1, 2, record["batch_ids"] * record["num_pos"])
    return halves[:, 0].ravel(), halves[:, 1].ravel() - len(record["visible_labels"])


def test_order_of_consecutive_epochs(record, sampler):
    generator = np.random.RandomState(record["seed"])
    assert record["epochs"]
    for number, expected in enumerate(record["epochs"]):
        for order in (sampler.draw(generator), sampler.epoch(number)):
            visible, infrared = split(order, record)
            assert visible.tolist() == expected["index1"]
            assert infrared.tolist() == expected["index2"]


def test_number_of_batches(record, sampler):
    size = 2 * record["batch_ids"] * record["num_pos"]
    assert len(sampler) == size * record["dataloader_actual_batches"]
    assert record["dataloader_actual_batches"] == record["dataloader_len"] + 1


def test_erased_rectangles(golden):
    record = golden.json("random_erasing.json")
    config = PRESETS["llcm"]("llcm").augment
    assert config.erase_fill == (0, 0, 0)
    assert record["boxes"]
    for seed, expected in record["boxes"].items():
        source = random.Random(int(seed))
        found = [draw_erase(source, HEIGHT, WIDTH, config) for _ in expected]
        assert [None if box is None else list(box) for box in found] == expected
