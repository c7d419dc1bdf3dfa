"""Sampler, random erasing and test transform against the official implementation."""

from __future__ import annotations

import random
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from reid_core.data.augment import normalize_pixels
from reid_core.data.augment_draws import draw_erase
from reid_core.data.images import decode_resized
from reid_core.data.samplers import DistinctIdentitySampler
from reid_core.testing.golden import needs_pillow_of_golden
from reid_iics.config import IICSConfig

HEIGHT, WIDTH = 256, 128  # golden README
BLOWN_UP = {"up": ("input.pil", (16, 8), (8, 8)), "down": ("input.pil2", (10, 7), (33, 21))}
ROWS, COLUMNS = 12, 9  # of which every n-th is in the golden file
LEVEL = 0.02  # one grey level, normalised: other versions of Pillow
MEAN_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def record(golden):
    return golden.json("sampler.json")


@pytest.fixture(scope="module")
def sampler(record):
    return DistinctIdentitySampler(record["pids"], record["batch_size"], record["num_instances"], 1)


def test_order_of_consecutive_epochs(record, sampler):
    seed = record["seed_for_random_and_numpy"]
    shuffler, drawer = random.Random(seed), np.random.RandomState(seed)
    for number in (1, 2):
        order = sampler.draw(shuffler, drawer)
        assert order.tolist() == record[f"epoch{number}"]
        assert len(order) == record[f"len_after_epoch{number}"]
    assert len(record["epoch1"]) // record["batch_size"] == record["full_batches_epoch1"]


def test_nominal_length(record):
    size = record["num_instances"]
    counts = Counter(record["pids"]).values()
    nominal = sum(max(size, count - count % size) for count in counts)
    assert nominal == record["len_before_first_iter"]


def test_erased_rectangles(golden):
    config = IICSConfig().augment
    cases = golden.json("random_erasing.json")
    assert any(case["erased"] for case in cases)
    for case in cases:
        box = draw_erase(random.Random(case["seed"]), HEIGHT, WIDTH, config)
        assert (None if box is None else list(box)) == case["erased"]
        if case["erased"]:
            assert config.erase_fill == pytest.approx(case["fill"], rel=1e-6)


@pytest.mark.parametrize("name", ["up", pytest.param("down", marks=needs_pillow_of_golden)])
def test_test_transform(golden, name, tmp_path):
    arrays, config = golden.arrays("test_transform.npz"), IICSConfig()
    source, size, block = BLOWN_UP[name]
    prefix = "" if golden.name == "public" else f"{golden.name}."  # golden README
    seed = zlib.crc32(f"{prefix}{source}".encode()) & 0xFFFFFFFF
    pixels = np.random.RandomState(seed).randint(0, 256, (*size, 3)).astype(np.uint8)
    pixels = pixels.repeat(block[0], axis=0).repeat(block[1], axis=1)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    assert (config.data.height, config.data.width) == (HEIGHT, WIDTH)
    resized = decode_resized(tmp_path / "image.png", HEIGHT, WIDTH, config.data.interpolation)
    found = np.empty(resized.shape, np.float32)
    normalize_pixels(resized, config.augment.mean, config.augment.std, out=found)
    expected = arrays[f"{name}_sub"]
    assert np.abs(found[:, ::ROWS, ::COLUMNS] - expected).max() <= LEVEL
    assert found.mean(dtype=np.float64) == pytest.approx(
        float(arrays[f"{name}_mean"]), abs=MEAN_TOLERANCE
    )
