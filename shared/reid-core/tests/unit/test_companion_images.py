"""Pixels of companions: gaps, alignment with the images, damaged files, batches on a device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.config import DataConfig
from reid_core.data.augment import normalize_pixels
from reid_core.data.augment_config import IMAGENET_MEAN, IMAGENET_STD
from reid_core.data.cache import ImageCache
from reid_core.data.companion_images import SparseImages, open_accompanied, open_companions
from reid_core.data.evaluation_loader import evaluation_batches
from reid_core.data.images import decode_resized
from reid_core.data.sample import Sample
from reid_core.data.stream import ImageStream
from reid_core.errors import DatasetError, ImageFileError

CPU = torch.device("cpu")
SIZE = (32, 24)
NUM_IMAGES = 11
WITHOUT_FACE = (0, 3, 4, 10)
CONFIG = DataConfig(height=48, width=16, cache="memory")


def write_picture(path: Path, seed: int, shape: tuple[int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Images with masks, most of them with a face."""
    found = []
    for number in range(NUM_IMAGES):
        path = write_picture(tmp_path / "images" / f"{number}.png", number, (40, 20))
        extra = {"mask": write_picture(tmp_path / "mask" / f"{number}.png", 100 + number, (40, 20))}
        if number not in WITHOUT_FACE:
            face = tmp_path / "lr_face" / f"{number}.png"
            extra["lr_face"] = write_picture(face, 200 + number, (15, 15))
        found.append(Sample(path, number, 0, extra=extra))
    return found


def faces_of(samples: list[Sample]) -> SparseImages:
    return open_companions(samples, "lr_face", SIZE, CONFIG)


def test_entries_without_an_image_are_left_out(samples):
    faces = faces_of(samples)
    assert (len(faces), faces.height, faces.width) == (NUM_IMAGES, *SIZE)
    assert np.flatnonzero(~faces.present).tolist() == [*WITHOUT_FACE]
    images, indices = faces.read(np.array([10, 9, 0, 1, 4, 2]))
    assert indices.tolist() == [9, 1, 2]
    for image, index in zip(images, indices, strict=True):
        expected = decode_resized(samples[index].extra["lr_face"], *SIZE)
        np.testing.assert_array_equal(image, expected)
    images, indices = faces.read(np.array([0, 3]))
    assert (images.shape, images.dtype, len(indices)) == ((0, 3, *SIZE), np.uint8, 0)


def test_a_list_without_any_companion(samples):
    bare = [replace(sample, extra={}) for sample in samples]
    faces = faces_of(bare)
    assert not faces.present.any()
    assert faces.read(np.arange(NUM_IMAGES)).images.shape == (0, 3, *SIZE)


def test_damaged_companions_count_as_missing_where_they_may(samples):
    samples[5].extra["lr_face"].write_bytes(b"no picture")
    with pytest.raises(ImageFileError, match=r"5\.png"):
        faces_of(samples)
    faces = open_companions(samples, "lr_face", SIZE, replace(CONFIG, skip_corrupt=True))
    assert np.flatnonzero(~faces.present).tolist() == sorted([*WITHOUT_FACE, 5])
    expected = decode_resized(samples[6].extra["lr_face"], *SIZE)
    np.testing.assert_array_equal(faces.read(np.array([5, 6])).images, expected[None])


def test_a_stream_that_skips_files_tells_which(samples):
    samples[5].extra["lr_face"].write_bytes(b"no picture")
    positions = np.array([i for i in range(NUM_IMAGES) if i not in WITHOUT_FACE])
    paths = [samples[i].extra["lr_face"] for i in positions]
    stream = ImageStream(paths, height=SIZE[0], width=SIZE[1], skip_corrupt=True)
    faces = SparseImages(stream, positions, NUM_IMAGES, height=SIZE[0], width=SIZE[1])
    assert faces.read(np.array([7, 5, 3, 6])).indices.tolist() == [7, 6]


def test_images_in_training_stand_beside_their_companions(samples):
    faces = [sample for sample in samples if "lr_face" in sample.extra]
    sizes = {"lr_face": SIZE, "mask": (48, 16)}
    opened = open_accompanied(faces, CONFIG, sizes, crop_scale=1.125)
    assert opened.samples == faces
    caches = {"images": opened.images, **opened.companions}
    assert list(opened.companions) == ["lr_face", "mask"]
    for name, cache in caches.items():
        height, width = sizes.get(name, (48, 16))
        assert cache.enlarged.shape[2:] == (round(1.125 * height), round(1.125 * width))
        for sample, image in zip(faces, cache.images, strict=True):
            path = sample.path if name == "images" else sample.extra[name]
            np.testing.assert_array_equal(image, decode_resized(path, height, width))


def test_a_sample_with_a_damaged_picture_is_left_out_as_a_whole(samples):
    faces = [sample for sample in samples if "lr_face" in sample.extra]
    broken = (faces[1].path, faces[3].extra["mask"], faces[5].extra["lr_face"])
    for path in broken:
        path.write_bytes(b"no picture")
    sizes = {"lr_face": SIZE, "mask": (48, 16)}
    with pytest.raises(ImageFileError):
        open_accompanied(faces, CONFIG, sizes)
    opened = open_accompanied(faces, replace(CONFIG, skip_corrupt=True), sizes)
    assert opened.samples == [faces[i] for i in (0, 2, 4, 6)]
    assert opened.images.paths == tuple(sample.path for sample in opened.samples)
    for kind in sizes:
        paths = tuple(sample.extra[kind] for sample in opened.samples)
        assert opened.companions[kind].paths == paths


def test_training_needs_every_companion(samples):
    with pytest.raises(DatasetError, match=r"0\.png has no face crop \(lr_face\), which training"):
        open_accompanied(samples, CONFIG, {"mask": (48, 16), "lr_face": SIZE})


def by_hand(path: Path | None, height: int, width: int) -> torch.Tensor:
    result = np.zeros((3, height, width), np.float32)
    if path is not None:
        pixels = decode_resized(path, height, width)
        normalize_pixels(pixels, IMAGENET_MEAN, IMAGENET_STD, out=result)
    return torch.from_numpy(result)


def opened_sources(samples: list[Sample]) -> tuple[ImageCache, list[SparseImages]]:
    images = ImageCache.build([sample.path for sample in samples], height=48, width=16)
    masks = open_companions(samples, "mask", (32, 16), CONFIG)
    return images, [faces_of(samples), masks]


@pytest.mark.parametrize("rows", [None, [7, 3, 10]])
def test_batches_hold_companions_and_zeros_where_there_are_none(samples, rows):
    images, companions = opened_sources(samples)
    indices = None if rows is None else np.array(rows)
    batches = [
        *evaluation_batches(
            images, batch_size=4, device=CPU, indices=indices, companions=companions
        )
    ]
    assert [row for batch in batches for row in batch.indices] == (rows or [*range(NUM_IMAGES)])
    for batch in batches:
        faces, masks = batch.companions
        assert (faces.shape, masks.shape) == ((4, 3, *SIZE), (4, 3, 32, 16))
        # The last image is repeated until the batch is full, with its companions.
        padded = [*batch.indices, *[batch.indices[-1]] * (4 - len(batch.indices))]
        for row, index in enumerate(padded):
            extra = samples[index].extra
            assert torch.equal(batch.images[row], by_hand(samples[index].path, 48, 16))
            assert torch.equal(faces[row], by_hand(extra.get("lr_face"), *SIZE))
            assert torch.equal(masks[row], by_hand(extra["mask"], 32, 16))
            assert bool(faces[row].any()) == (index not in WITHOUT_FACE)


def test_companions_stay_with_their_images_where_a_stream_skips_some(samples):
    samples[1].path.write_bytes(b"no picture")
    paths = [sample.path for sample in samples]
    images = ImageStream(paths, height=48, width=16, skip_corrupt=True)
    (batch, *_) = evaluation_batches(
        images, batch_size=6, device=CPU, companions=[faces_of(samples)]
    )
    assert batch.indices.tolist() == [0, 2, 3, 4, 5]
    for row, index in enumerate(batch.indices):
        expected = by_hand(samples[index].extra.get("lr_face"), *SIZE)
        assert torch.equal(batch.companions[0][row], expected)


def test_companions_of_another_list(samples):
    images, (faces, _) = opened_sources(samples)
    with pytest.raises(ValueError, match="companions of 10 images beside 11 images"):
        next(
            evaluation_batches(images, batch_size=4, device=CPU, companions=[faces_of(samples[1:])])
        )
    assert len(next(evaluation_batches(images, batch_size=4, device=CPU)).companions) == 0
    assert len(faces) == len(images)


@pytest.mark.gpu
def test_cuda_gets_the_same_companions(samples):
    images, companions = opened_sources(samples)
    both = [
        [*evaluation_batches(images, batch_size=4, device=device, companions=companions)]
        for device in (CPU, torch.device("cuda"))
    ]
    for expected, found in zip(*both, strict=True):
        for one, other in zip(expected.companions, found.companions, strict=True):
            assert other.device.type == "cuda"
            assert torch.equal(one, other.cpu())
