"""Sampler order, test transform, crop and erase geometry against the official implementation."""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.data.augment import AugmentConfig, AugmentParams, BatchAugment
from reid_core.data.augment_draws import CropOffset, EraseBox, draw_crop, draw_erase, enlarged_size
from reid_core.data.finish import Normalizer
from reid_core.data.images import decode_resized
from reid_core.data.samplers import IdentityChunkSampler, inference_indices
from reid_core.testing.golden import GoldenSet

CONFIG = AugmentConfig()
HEIGHT, WIDTH = 384, 192  # golden README: the image for which all draws were scripted


@pytest.fixture(scope="module")
def pipeline(golden: GoldenSet) -> Mapping[str, Any]:
    return golden.json("data_pipeline.json")


class ScriptedDraws:
    """Gives listed draws in order, and insists on being asked for the listed ranges."""

    def __init__(self, calls: Sequence[tuple[str, float, float, float]]) -> None:
        self.left = deque(calls)

    def uniform(self, a: float, b: float) -> float:
        return self._next("uniform", a, b)

    def randint(self, a: int, b: int) -> int:
        return int(self._next("randint", a, b))

    def _next(self, kind: str, a: float, b: float) -> float:
        expected_kind, low, high, value = self.left.popleft()
        assert (kind, a, b) == (expected_kind, low, high)
        return value


def one_image(**drawn: Any) -> AugmentParams:
    params = {
        "crop": np.zeros(1, bool),
        "crop_offsets": np.zeros((1, 2), np.int64),
        "flip": np.zeros(1, bool),
        "erase_boxes": np.zeros((1, 4), np.int64),
    }
    return AugmentParams(**{**params, **drawn})


def test_no_block_of_the_file_is_empty_or_left_out(pipeline: Mapping[str, Any]) -> None:
    lists = {"runs", "inference_sampler", "random_crop_scripted", "random_erasing_scripted"}
    blocks = {name for name, block in pipeline.items() if not isinstance(block, str)}
    assert blocks == lists | {"pids_in_dataset_order", "seed", "test_transform"}
    assert all(pipeline[name] for name in lists)
    assert pipeline["test_transform"]["samples"]


def test_sampler_order_of_every_run(pipeline: Mapping[str, Any]) -> None:
    for run in pipeline["runs"]:
        sampler = IdentityChunkSampler(
            pipeline["pids_in_dataset_order"],
            run["num_instances"],
            pipeline["seed"],
            run["rank"],
            run["world_size"],
        )
        order = sampler.epoch(run["epoch"])
        assert order.tolist() == run["indices"], run
        assert len(sampler) == run["len"] == len(run["indices"])


def test_sampler_leaves_the_global_generators_alone(pipeline: Mapping[str, Any]) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    IdentityChunkSampler(pipeline["pids_in_dataset_order"], 8, 1).epoch(0)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_inference_shards(pipeline: Mapping[str, Any]) -> None:
    for case in pipeline["inference_sampler"]:
        shard = inference_indices(case["dataset_len"], case["rank"], case["world_size"])
        assert shard.tolist() == case["indices"], case


def test_test_transform(pipeline: Mapping[str, Any], golden: GoldenSet, tmp_path: Path) -> None:
    expected = pipeline["test_transform"]
    shape = tuple(map(int, re.search(r"\((\d+), *(\d+), *3\)", expected["input"]).groups()))
    assert f'"{golden.input_name("pil")}"' in expected["input"]
    seed = zlib.crc32(golden.input_name("pil").encode()) & 0xFFFFFFFF
    pixels = np.random.RandomState(seed).randint(0, 256, (*shape, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "image.png")

    resized = decode_resized(tmp_path / "image.png", *expected["shape"][1:])
    image = Normalizer(torch.device("cpu"))(torch.from_numpy(resized)[None])[0]

    assert list(image.shape) == expected["shape"]
    for channel, row, column, value in expected["samples"]:
        assert image[channel, row, column].item() == pytest.approx(value, abs=1e-6)
    flat = image.double().flatten(1)
    assert flat.mean(1).tolist() == pytest.approx(expected["mean"], abs=1e-6)
    assert flat.std(1).tolist() == pytest.approx(expected["std"], abs=1e-6)


def test_random_crop_scripted(pipeline: Mapping[str, Any]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH), dtype=np.uint8)
    reference = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    for case in pipeline["random_crop_scripted"]:
        ranges = [("uniform", *limits) for limits in case["draw_ranges"]]
        calls = [(*r, draw) for r, draw in zip(ranges, case["draws"], strict=True)]
        draws = ScriptedDraws(calls)
        offset = draw_crop(draws, HEIGHT, WIDTH, CONFIG)
        assert not draws.left, case
        if case.get("box_l_t_r_b") is None:
            assert offset is None, case
            continue
        left, top, right, bottom = case["box_l_t_r_b"]
        assert enlarged_size(HEIGHT, WIDTH, CONFIG.crop_scale) == tuple(case["resize_wh"][::-1])
        assert (right - left, bottom - top) == (WIDTH, HEIGHT)
        assert offset == CropOffset(top, left), case
        # The pixels, too, are those of Pillow with the listed size, filter and box.
        cropped = reference.resize(tuple(case["resize_wh"]), case["interp"]).crop(
            (left, top, right, bottom)
        )
        params = one_image(crop=np.ones(1, bool), crop_offsets=np.array([[top, left]]))
        augmented = BatchAugment(CONFIG, HEIGHT, WIDTH).apply_uint8(image[None], params)
        assert (augmented[0].transpose(1, 2, 0) == np.asarray(cropped)).all(), case


def test_random_erasing_scripted(pipeline: Mapping[str, Any]) -> None:
    image = np.zeros((1, 3, HEIGHT, WIDTH), np.uint8)
    plain = BatchAugment(CONFIG, HEIGHT, WIDTH).apply_float(image, one_image())
    for case in pipeline["random_erasing_scripted"]:
        draws = ScriptedDraws([tuple(call) for call in case["calls"]])
        box = draw_erase(draws, HEIGHT, WIDTH, CONFIG)
        assert not draws.left, case
        if case["rect_top_left_h_w"] is None:
            assert box is None, case
            continue
        assert box == EraseBox(*case["rect_top_left_h_w"]), case
        params = one_image(erase_boxes=np.array([box]))
        erased = BatchAugment(CONFIG, HEIGHT, WIDTH).apply_float(image, params)
        expected = plain.copy()
        rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
        expected[:, :, rows, columns] = np.array(case["values"], np.float32)[:, None, None]
        assert (erased == expected).all(), case
