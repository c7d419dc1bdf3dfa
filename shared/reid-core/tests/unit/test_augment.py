"""Augmentation of batches against one image at a time with Pillow and torchvision."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import functional

from reid_core.data.augment import AugmentParams, BatchAugment, mirror
from reid_core.data.augment_config import AugmentConfig
from reid_core.data.augment_draws import draw_crop, draw_erase, enlarged_size, erase_size
from reid_core.data.finish import DeviceFinish
from reid_core.data.images import resize_planar
from reid_core.errors import ConfigError

SIZES = [(64, 32), (50, 21), (384, 192)]
# The enlarging crop of CAL and AIM, the padding of CSSC, and both.
CONFIGS = {
    "enlarged": AugmentConfig(),
    "padded": AugmentConfig(crop_prob=0, pad=10, erase_fill=(0.0, 0.0, 0.0)),
    "both": AugmentConfig(pad=3),
}


def pixels(count: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (count, 3, height, width), dtype=np.uint8)


def one_by_one(
    image: np.ndarray, i: int, params: AugmentParams, config: AugmentConfig
) -> tuple[np.ndarray, torch.Tensor]:
    """Augment image i as the per-image pipeline does; before and after the tensor steps."""
    height, width = image.shape[1:]
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    if params.crop[i]:
        top, left = params.crop_offsets[i].tolist()
        large = (round(width * config.crop_scale), round(height * config.crop_scale))
        picture = picture.resize(large, Image.Resampling.BILINEAR)
        picture = picture.crop((left, top, left + width, top + height))
    if params.flip[i]:
        picture = functional.hflip(picture)
    if params.pad_offsets is not None:
        top, left = params.pad_offsets[i].tolist()
        picture = functional.crop(functional.pad(picture, config.pad), top, left, height, width)
    tensor = functional.normalize(functional.to_tensor(picture), config.mean, config.std)
    top, left, box_height, box_width = params.erase_boxes[i].tolist()
    fill = torch.tensor(config.erase_fill)[:, None, None]
    tensor[:, top : top + box_height, left : left + box_width] = fill
    return np.asarray(picture).transpose(2, 0, 1), tensor


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_batch_equals_one_by_one_bit_for_bit(height: int, width: int, kind: str) -> None:
    config = CONFIGS[kind]
    augment = BatchAugment(config, height, width)
    images = pixels(12, height, width)
    params = augment.draw(np.random.default_rng(4), 12)
    # The draw must exercise everything, alone and together.
    kinds = {(c, f) for c, f in zip(params.crop, params.flip, strict=True)}
    assert len(kinds) == (4 if config.crop_prob else 2)
    assert (params.pad_offsets is None) == (config.pad == 0)
    assert 0 < np.count_nonzero(params.erase_boxes[:, 2]) < 12
    large = np.stack([resize_planar(image, *augment.enlarged_size) for image in images])

    for enlarged in (None, large, list(large)):
        cut = augment.apply_uint8(images, params, enlarged=enlarged)
        floats = augment.apply_float(images, params, enlarged=enlarged)
        assert cut.dtype == np.uint8
        assert floats.dtype == np.float32
        for i, image in enumerate(images):
            wanted_cut, wanted = one_by_one(image, i, params, config)
            assert (cut[i] == wanted_cut).all()
            assert (floats[i] == wanted.numpy()).all()
        # What a device does with the uint8 batch gives the same bits.
        finish = DeviceFinish(config, torch.device("cpu"))
        assert torch.equal(finish(torch.from_numpy(cut), params), torch.from_numpy(floats))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", CONFIGS)
def test_device_finish_on_cuda_equals_the_cpu(kind: str) -> None:
    augment = BatchAugment(CONFIGS[kind], 64, 32)
    params = augment.draw(np.random.default_rng(4), 12)
    cut = augment.apply_uint8(pixels(12, 64, 32), params)
    device = torch.device("cuda")
    found = DeviceFinish(augment.config, device)(torch.from_numpy(cut).to(device), params)
    wanted = augment.apply_float(pixels(12, 64, 32), params)
    assert torch.equal(found.cpu(), torch.from_numpy(wanted))


@pytest.mark.parametrize("kind", CONFIGS)
def test_out_is_filled_and_returned(kind: str) -> None:
    augment = BatchAugment(CONFIGS[kind], 64, 32)
    images, params = pixels(3, 64, 32), augment.draw(np.random.default_rng(0), 3)
    cut, floats = np.empty_like(images), np.empty(images.shape, np.float32)
    assert augment.apply_uint8(images, params, out=cut) is cut
    assert augment.apply_float(images, params, out=floats) is floats
    assert (cut == augment.apply_uint8(images, params)).all()
    assert (floats == augment.apply_float(images, params)).all()


@pytest.mark.parametrize("kind", CONFIGS)
def test_inputs_stay_as_they_are(kind: str) -> None:
    augment = BatchAugment(CONFIGS[kind], 64, 32)
    images, params = pixels(8, 64, 32), augment.draw(np.random.default_rng(0), 8)
    augment.apply_float(images, params)[:] = 0
    augment.apply_uint8(images, params)[:] = 0
    assert (images == pixels(8, 64, 32)).all()


def test_nothing_happens_at_probability_zero_and_always_at_one() -> None:
    never = AugmentConfig(crop_prob=0, flip_prob=0, erase_prob=0)
    params = BatchAugment(never, 64, 32).draw(np.random.default_rng(0), 50)
    assert not params.crop.any()
    assert not params.flip.any()
    assert not params.erase_boxes.any()
    images = pixels(50, 64, 32)
    assert (BatchAugment(never, 64, 32).apply_uint8(images, params) == images).all()
    always = AugmentConfig(crop_prob=1, flip_prob=1, erase_prob=1)
    params = BatchAugment(always, 64, 32).draw(np.random.default_rng(0), 50)
    assert params.crop.all()
    assert params.flip.all()
    assert params.erase_boxes[:, 2:].all()


def test_padded_images_land_at_every_place_equally_often() -> None:
    config = AugmentConfig(pad=2)
    offsets = BatchAugment(config, 64, 32).draw(np.random.default_rng(0), 25_000).pad_offsets
    places, counts = np.unique(offsets, axis=0, return_counts=True)
    assert places.tolist() == [[top, left] for top in range(5) for left in range(5)]
    # 1,000 each; five standard deviations.
    assert np.abs(counts - 1000).max() < 5 * 1000**0.5


def test_padding_does_not_disturb_the_other_draws_before_it() -> None:
    plain, padded = (
        BatchAugment(AugmentConfig(pad=pad), 64, 32).draw(np.random.default_rng(3), 40)
        for pad in (0, 10)
    )
    assert (plain.crop_offsets == padded.crop_offsets).all()
    assert (plain.flip == padded.flip).all()


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_padding_at_every_size_and_place(height: int, width: int, data: st.DataObject) -> None:
    pad = data.draw(st.integers(1, max(1, min(height, width) - 1)))
    if pad >= min(height, width):
        with pytest.raises(
            ConfigError, match=rf"pad={pad} could push images of {height} x {width}"
        ):
            BatchAugment(AugmentConfig(pad=pad), height, width)
        return
    top, left = data.draw(st.integers(0, 2 * pad)), data.draw(st.integers(0, 2 * pad))
    flip = data.draw(st.booleans())
    image = pixels(1, height, width)
    params = AugmentParams(
        crop=np.zeros(1, bool),
        crop_offsets=np.zeros((1, 2), np.int64),
        flip=np.array([flip]),
        erase_boxes=np.zeros((1, 4), np.int64),
        pad_offsets=np.array([[top, left]]),
    )
    found = BatchAugment(AugmentConfig(pad=pad), height, width).apply_uint8(image, params)
    large = np.pad(image[0, :, :, ::-1] if flip else image[0], ((0, 0), (pad, pad), (pad, pad)))
    assert (found[0] == large[:, top : top + height, left : left + width]).all()


def test_rectangles_that_never_fit_leave_images_whole() -> None:
    # Area 1 with ratio 1 is at least as high as the image is low.
    config = AugmentConfig(erase_prob=1, erase_area=(1, 1), erase_min_ratio=1)
    assert not BatchAugment(config, 64, 32).draw(np.random.default_rng(0), 5).erase_boxes.any()
    assert draw_erase(random.Random(0), 64, 32, config) is None


@settings(deadline=None)
@given(
    st.integers(4, 200),
    st.integers(4, 200),
    st.floats(1, 2),
    st.floats(0.01, 0.5),
    st.floats(0.05, 1),
    st.integers(0, 2**32 - 1),
)
def test_draws_stay_inside_the_image(
    height: int, width: int, scale: float, area: float, min_ratio: float, seed: int
) -> None:
    config = AugmentConfig(
        crop_scale=scale, erase_area=(area, min(1, 2 * area)), erase_min_ratio=min_ratio
    )
    augment = BatchAugment(config, height, width)
    large_height, large_width = enlarged_size(height, width, scale)
    params = augment.draw(np.random.default_rng(seed), 32)
    offsets = [tuple(offset) for offset in params.crop_offsets[params.crop].tolist()]
    boxes = [tuple(box) for box in params.erase_boxes.tolist() if any(box)]
    source = random.Random(seed)
    for _ in range(32):
        offset, box = draw_crop(source, height, width, config), None
        offsets += [offset] if offset else []
        box = draw_erase(source, height, width, config)
        boxes += [box] if box else []
    for top, left in offsets:
        assert 0 <= top <= large_height - height
        assert 0 <= left <= large_width - width
    for top, left, box_height, box_width in boxes:
        assert 0 <= top <= height - box_height
        assert 0 <= left <= width - box_width
        assert 0 <= box_height < height
        assert 0 <= box_width < width
    assert not params.crop_offsets[~params.crop].any()


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(0.05, 20)), min_size=1, max_size=20))
def test_rectangle_sizes_of_a_batch_are_those_of_single_images(
    cases: list[tuple[float, float]],
) -> None:
    areas, ratios = zip(*cases, strict=True)
    heights, widths = erase_size(areas, ratios)
    for i, (area, ratio) in enumerate(cases):
        assert heights[i] == round((area * ratio) ** 0.5)
        assert widths[i] == round((area / ratio) ** 0.5)


def test_batch_draws_are_distributed_as_single_draws() -> None:
    count, config = 20_000, AugmentConfig(erase_area=(0.1, 0.9))  # many rejections
    params = BatchAugment(config, 64, 32).draw(np.random.default_rng(0), count)
    source = random.Random(0)
    crops = [draw_crop(source, 64, 32, config) for _ in range(count)]
    boxes = [draw_erase(source, 64, 32, config) for _ in range(count)]
    single = AugmentParams(
        crop=np.array([crop is not None for crop in crops]),
        crop_offsets=np.array([crop or (0, 0) for crop in crops]),
        flip=np.array([source.random() < 0.5 for _ in range(count)]),
        erase_boxes=np.array([box or (0, 0, 0, 0) for box in boxes]),
    )

    def moments(drawn: AugmentParams) -> np.ndarray:
        """Mean and spread of every quantity, and how often the outermost crops come."""
        cropped = drawn.crop_offsets[drawn.crop]
        erased = drawn.erase_boxes[drawn.erase_boxes[:, 2] > 0]
        groups = [
            drawn.crop[:, None],
            drawn.flip[:, None],
            cropped,
            cropped == 0,
            cropped == [8, 4],
        ]
        groups += [erased, np.prod(erased[:, 2:], axis=1)[:, None], drawn.erase_boxes[:, 2:3] > 0]
        found = []
        for group in groups:
            found += [group.mean(0) / 1.0, group.std(0)]
        return np.concatenate(found)

    # Standard errors are below 1 % of a spread at this count; the draws are seeded.
    assert moments(params) == pytest.approx(moments(single), rel=0.05, abs=0.01)
    # Rounding makes the outermost of 5 horizontal places half as likely: 1/8, not 1/5.
    assert np.mean(params.crop_offsets[params.crop][:, 1] == 0) == pytest.approx(1 / 8, abs=0.01)


@given(st.integers(1, 40), st.integers(1, 5), st.booleans())
def test_mirror_at_every_width(width: int, height: int, sliced: bool) -> None:
    source = np.arange(3 * (height + 2) * (width + 3)).astype(np.uint8)
    source = source.reshape(3, height + 2, width + 3)
    source = source[:, 1:-1, 2:-1] if sliced else np.ascontiguousarray(source[:, 2:, 3:])
    out = np.empty((3, height, width), np.uint8)
    assert (mirror(source, out=out) == source[:, :, ::-1]).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop_prob": 1.5}, "crop_prob=1.5 is not a probability"),
        ({"flip_prob": -0.1}, "flip_prob=-0.1 is not a probability"),
        ({"erase_prob": float("nan")}, "erase_prob=nan is not a probability"),
        ({"pad": -1}, "pad=-1 must not be negative"),
        ({"crop_scale": 0.9}, "crop_scale=0.9 would shrink"),
        ({"crop_scale": float("nan")}, "crop_scale=nan would shrink"),
        ({"erase_area": (0.4, 0.02)}, "is not a range of shares"),
        ({"erase_area": (0.0, 0.4)}, "is not a range of shares"),
        ({"erase_area": (0.02, 40)}, "is not a range of shares"),
        ({"erase_min_ratio": 0}, "erase_min_ratio=0 must be above 0"),
        ({"erase_min_ratio": 3.3}, "erase_min_ratio=3.3 must be above 0, at most 1"),
        ({"std": (0.2, 0.0, 0.2)}, "must be positive in every channel"),
    ],
)
def test_config_ranges(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        AugmentConfig(**values)
