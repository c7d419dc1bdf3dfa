"""Sampler, transforms and random erasing against the official implementation."""

from __future__ import annotations

import random
import re
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from reid_core.data.augment import AugmentConfig, AugmentParams, BatchAugment
from reid_core.data.augment_draws import draw_erase
from reid_core.data.images import decode_resized
from reid_core.data.samplers import DistinctIdentitySampler
from reid_core.testing.golden import GoldenSet, needs_pillow_of_golden

CONFIG = AugmentConfig(crop_prob=0, pad=10, erase_fill=(0.0, 0.0, 0.0))
HEIGHT, WIDTH = 384, 192
TOLERANCE = 1e-6
# Sizes of the golden images, height x width, from the golden README.
SIZES = {"up": (256, 128), "down": (701, 333)}
# Ten times the golden calls, so that the tolerances are left to chance in the golden figures.
CALLS, PROB_TOLERANCE, AREA_TOLERANCE = 40_000, 0.03, 0.01


@pytest.fixture(scope="module")
def sampler(golden: GoldenSet) -> Mapping[str, Any]:
    return golden.json("sampler.json")


@pytest.fixture(scope="module")
def erasing(golden: GoldenSet) -> Mapping[str, Any]:
    return golden.json("random_erasing.json")


@pytest.fixture(scope="module")
def transforms(golden: GoldenSet) -> Mapping[str, npt.NDArray[Any]]:
    return golden.arrays("transforms.npz")


@pytest.fixture(scope="module")
def resized(golden: GoldenSet, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """The golden images, decoded and resized: (3, H, W) uint8."""
    folder = tmp_path_factory.mktemp("images")
    found = {}
    for name, size in SIZES.items():
        seed = zlib.crc32(golden.input_name(f"pil.{name}").encode()) & 0xFFFFFFFF
        pixels = np.random.RandomState(seed).randint(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        found[name] = decode_resized(Path(folder / f"{name}.png"), HEIGHT, WIDTH)
    return found


def one_image(**drawn: Any) -> AugmentParams:
    params = {
        "crop": np.zeros(1, bool),
        "crop_offsets": np.zeros((1, 2), np.int64),
        "flip": np.zeros(1, bool),
        "erase_boxes": np.zeros((1, 4), np.int64),
    }
    return AugmentParams(**{**params, **drawn})


def test_sampler_order_of_every_pass(sampler: Mapping[str, Any]) -> None:
    assert sampler["cases"]
    for case in sampler["cases"]:
        ours = DistinctIdentitySampler(
            case["pids"], case["batch_size"], case["num_instances"], case["seed"]
        )
        shuffler, drawer = random.Random(case["seed"]), np.random.RandomState(case["seed"])
        assert ours.epoch(0).tolist() == case["epochs"][0]
        for expected, length in zip(case["epochs"], case["len_after"], strict=True):
            order = ours.draw(shuffler, drawer).tolist()
            assert order == expected
            assert len(ours) <= len(order) == length <= case["len_before"]


def test_sampler_properties(sampler: Mapping[str, Any]) -> None:
    for case in sampler["cases"]:
        size, pids = case["num_instances"], case["pids"]
        ours = DistinctIdentitySampler(pids, case["batch_size"], size, case["seed"])
        for epoch in range(5):
            order = ours.epoch(epoch)
            chunks = [tuple(chunk) for chunk in order.reshape(-1, size).tolist()]
            owners = [{pids[i] for i in chunk} for chunk in chunks]
            assert all(len(owner) == 1 for owner in owners)
            batches = np.array([owner.pop() for owner in owners]).reshape(
                -1, case["batch_size"] // size
            )
            assert all(len(set(batch)) == len(batch) for batch in batches.tolist())
            # An epoch ends when too few identities have images left for another batch.
            used, owned = Counter(batches.flatten().tolist()), Counter(pids)
            left = [pid for pid, n in owned.items() if max(n, size) // size > used[pid]]
            assert len(left) < batches.shape[1]


def test_rectangles_for_every_seed(erasing: Mapping[str, Any]) -> None:
    _, height, width = erasing["image"]
    expected = erasing["rect_top_left_h_w_or_null"]
    found = [
        draw_erase(random.Random(erasing["first_seed"] + i), height, width, CONFIG)
        for i in range(len(expected))
    ]
    assert [None if box is None else list(box) for box in found] == expected


def test_how_often_and_how_much_is_erased(erasing: Mapping[str, Any]) -> None:
    _, height, width = erasing["image"]
    augment = BatchAugment(CONFIG, height, width)
    boxes = augment.draw(np.random.default_rng(0), CALLS).erase_boxes
    areas = (boxes[:, 2] * boxes[:, 3])[boxes[:, 2] > 0] / (height * width)
    assert len(areas) / CALLS == pytest.approx(erasing["stat_prob"], abs=PROB_TOLERANCE)
    assert areas.mean() == pytest.approx(erasing["stat_mean_area"], abs=AREA_TOLERANCE)


@pytest.mark.parametrize("name", ["up", pytest.param("down", marks=needs_pillow_of_golden)])
def test_test_transform(
    name: str, transforms: Mapping[str, Any], resized: Mapping[str, Any]
) -> None:
    image = BatchAugment(CONFIG, HEIGHT, WIDTH).apply_float(resized[name][None], one_image())[0]
    grid = image[:, ::16, ::16]
    np.testing.assert_allclose(grid, transforms[f"{name}_grid"], rtol=0, atol=TOLERANCE)
    # The standard deviation is PyTorch's, with n - 1.
    moments = [image.mean(dtype=np.float64), image.std(dtype=np.float64, ddof=1)]
    np.testing.assert_allclose(moments, transforms[f"{name}_mean_std"], rtol=0, atol=TOLERANCE)


@needs_pillow_of_golden
def test_flip_pad_and_crop(transforms: Mapping[str, Any], resized: Mapping[str, Any]) -> None:
    keys = [key for key in transforms if key.startswith("train_") and key.endswith("_grid")]
    assert keys
    for key in keys:
        top, left = map(int, re.fullmatch(r"train_flip_crop_(\d+)_(\d+)_grid", key).groups())
        drawn = one_image(flip=np.ones(1, bool), pad_offsets=np.array([[top, left]]))
        image = BatchAugment(CONFIG, HEIGHT, WIDTH).apply_float(resized["down"][None], drawn)[0]
        corner = key.replace("_grid", "_corner")
        for found, wanted in ((image[:, ::16, ::16], key), (image[:, :12, :12], corner)):
            np.testing.assert_allclose(found, transforms[wanted], rtol=0, atol=TOLERANCE)


def test_no_array_is_left_out(transforms: Mapping[str, Any]) -> None:
    plain = {f"{name}_{what}" for name in SIZES for what in ("grid", "mean_std")}
    crops = {
        key for key in transforms if re.fullmatch(r"train_flip_crop_\d+_\d+_(grid|corner)", key)
    }
    assert set(transforms) == plain | crops
