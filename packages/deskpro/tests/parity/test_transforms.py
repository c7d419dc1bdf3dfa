"""transforms.json and .npz: the draws that four pictures share, and what becomes of the pixels."""

import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.data.augment import AugmentParams, BatchAugment
from reid_core.data.images import decode_resized
from reid_deskpro.augment import SharedDraws, apply_to_masks, draw_params
from reid_deskpro.stage_config import SyncAugmentConfig

TOLERANCE = 1e-6  # golden README
CONFIG = SyncAugmentConfig()
# From the golden README: sizes of the files, height x width, and of what is made of them.
SOURCES = {"body": (128, 64), "lr_face": (48, 40), "hr_face": (256, 256), "mask": (128, 64)}
SIZES = {"body": (384, 128), "lr_face": (224, 224), "hr_face": (224, 224), "mask": (384, 128)}
STREAMS = {"body": "body", "lr_face": "face", "hr_face": "face", "mask": "mask"}


@pytest.fixture(scope="module")
def decisions(golden):
    return {case["seed"]: case["decisions"] for case in golden.json("transforms.json")}


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("transforms.npz")


@pytest.fixture(scope="module")
def pixels(golden, tmp_path_factory):
    """The golden pictures, decoded and resized: (3, H, W) uint8."""
    folder, found = tmp_path_factory.mktemp("pictures"), {}
    for name, size in SOURCES.items():
        seed = zlib.crc32(golden.input_name(f"tr.{name}").encode()) & 0xFFFFFFFF
        values = np.random.RandomState(seed).randint(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(values).save(folder / f"{name}.png")
        found[name] = decode_resized(folder / f"{name}.png", *SIZES[name])
    return found


def drawn(seed, name):
    """Return what is drawn for a picture when all generators are seeded so."""
    flip = torch.rand(1, generator=torch.Generator().manual_seed(seed)).item() < CONFIG.flip_prob
    draws = SharedDraws(np.array([flip]), [seed])
    return draw_params(draws, BatchAugment(CONFIG, *SIZES[name]))


def made(name, image, params):
    """Return a picture after its transform: (3 or 1, H, W) float32."""
    augment = BatchAugment(CONFIG, *SIZES[name])
    if name != "mask":
        return augment.apply_float([image], params)[0]
    out = np.empty((1, 1, *SIZES[name]), np.uint8)
    return apply_to_masks([image], params, augment, out=out)[0] / np.float32(255)


def grid(name, image):
    return image[:, 5::24, 3::16] if name in ("body", "mask") else image[:, 5::16, 3::16]


def test_draws(decisions):
    assert decisions
    for seed, expected in decisions.items():
        for name, stream in STREAMS.items():
            params, wanted = drawn(seed, name), expected["streams"][stream]
            assert bool(params.flip[0]) == expected["flip"]
            enlarged = BatchAugment(CONFIG, *SIZES[name]).enlarged_size
            assert list(enlarged[::-1]) == wanted["enlarged_wh"]
            assert bool(params.crop[0]) == (wanted["crop_xy"] is not None)
            if wanted["crop_xy"] is not None:
                top, left = params.crop_offsets[0].tolist()
                # Ours are of the image before it is flipped.
                slack = enlarged[1] - SIZES[name][1]
                assert [slack - left if expected["flip"] else left, top] == wanted["crop_xy"]
            if name == "mask":
                continue  # nothing of a mask is erased
            box = params.erase_boxes[0].tolist()
            assert (box if box[2] else None) == wanted["erase_yxhw"]


def test_the_cases_show_every_step(decisions):
    streams = [case["streams"]["face"] for case in decisions.values()]
    assert {case["flip"] for case in decisions.values()} == {True, False}
    for step in ("crop_xy", "erase_yxhw"):
        assert {stream[step] is None for stream in streams} == {True, False}


@pytest.mark.parametrize("name", SIZES)
def test_training_pictures(name, decisions, arrays, pixels):
    for seed in decisions:
        found = grid(name, made(name, pixels[name], drawn(seed, name)))
        expected = arrays[f"train_s{seed}_{name}"]
        channels = expected if name != "mask" else expected[:1]
        np.testing.assert_allclose(found, channels, rtol=0, atol=TOLERANCE, err_msg=str(seed))


@pytest.mark.parametrize("name", SIZES)
def test_test_pictures(name, arrays, pixels):
    nothing = AugmentParams(
        crop=np.zeros(1, bool),
        crop_offsets=np.zeros((1, 2), np.int64),
        flip=np.zeros(1, bool),
        erase_boxes=np.zeros((1, 4), np.int64),
    )
    image = made(name, pixels[name], nothing)
    expected = arrays[f"test_{name}"]
    channels = expected if name != "mask" else expected[:1]
    np.testing.assert_allclose(grid(name, image), channels, rtol=0, atol=TOLERANCE)
    if name != "mask":  # of which three channels are summed up, and one is looked at
        values = image.astype(np.float64)
        sums = [values.sum(), np.square(values).sum()]
        np.testing.assert_allclose(sums, arrays[f"test_{name}_sum"], rtol=TOLERANCE)


def test_no_array_is_left_out(decisions, arrays):
    train = {f"train_s{seed}_{name}" for seed in decisions for name in SIZES}
    test = {f"test_{name}{end}" for name in SIZES for end in ("", "_sum")}
    assert set(arrays) == train | test
