"""Training and evaluation batches: contents, resuming, lifetime, errors."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.data.augment import BatchAugment
from reid_core.data.augment_config import AugmentConfig
from reid_core.data.buffers import FloatBuffers
from reid_core.data.cache import ImageCache
from reid_core.data.evaluation_loader import evaluation_batches
from reid_core.data.finish import Normalizer
from reid_core.data.images import decode_resized
from reid_core.data.loader import Batch, TrainLoader
from reid_core.data.sample import Sample
from reid_core.data.samplers import (
    DistinctIdentitySampler,
    IdentityChunkSampler,
    inference_indices,
)
from reid_core.data.stream import ImageStream
from reid_core.errors import ConfigError, ImageFileError

HEIGHT, WIDTH = 32, 16
CPU = torch.device("cpu")
NUM_IMAGES = 30


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    found = []
    for i in range(NUM_IMAGES):
        path = folder / f"{i:03d}.png"
        Image.fromarray(rng.integers(0, 256, (40, 20, 3), dtype=np.uint8)).save(path)
        modality = "infrared" if i % 3 == 2 else "visible"
        found.append(Sample(path, pid=i // 5, camid=i % 3, clothes_id=i // 2, modality=modality))
    return found


@pytest.fixture(scope="module")
def cache(samples: list[Sample]) -> ImageCache:
    return ImageCache.build([s.path for s in samples], height=HEIGHT, width=WIDTH, crop_scale=1.125)


def make_loader(cache: ImageCache, samples: list[Sample], **options: Any) -> TrainLoader:
    arguments: dict[str, Any] = {"batch_size": 8, "device": CPU, "seed": 7, "rank": 0, **options}
    pids = [sample.pid for sample in samples]
    sampler = IdentityChunkSampler(pids, 2, seed=1)
    augment = BatchAugment(AugmentConfig(), HEIGHT, WIDTH)
    return TrainLoader(cache, samples, sampler, augment, **arguments)


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.indices.tolist() == other.indices.tolist()
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.pids, other.pids)


@pytest.mark.parametrize("epoch", [0, 3])
def test_batches_hold_the_samplers_images_and_labels(
    epoch: int, cache: ImageCache, samples: list[Sample]
) -> None:
    loader = make_loader(cache, samples)
    loader.set_epoch(epoch)
    order = IdentityChunkSampler([s.pid for s in samples], 2, seed=1).epoch(epoch)
    augment = BatchAugment(AugmentConfig(), HEIGHT, WIDTH)
    assert len(loader) == len(order) // 8 == 3
    for number, batch in enumerate(loader.batches()):
        indices = order[8 * number : 8 * number + 8]
        chosen = [samples[i] for i in indices]
        assert batch.indices.tolist() == indices.tolist()
        assert batch.pids.tolist() == [s.pid for s in chosen]
        assert batch.camids.tolist() == [s.camid for s in chosen]
        assert batch.clothes_ids.tolist() == [s.clothes_id for s in chosen]
        assert batch.infrared.tolist() == [s.modality == "infrared" for s in chosen]
        assert batch.infrared.dtype == torch.bool
        assert batch.paths == tuple(s.path for s in chosen)
        assert batch.pids.dtype == torch.int64
        # The documented recipe: what a batch looks like follows from four numbers.
        params = augment.draw(np.random.default_rng([7, epoch, number, 0]), 8)
        expected = augment.apply_float(cache.images[indices], params)
        assert torch.equal(batch.images, torch.from_numpy(expected))


def test_enlarged_images_only_save_time(cache: ImageCache, samples: list[Sample]) -> None:
    lean = ImageCache.build(cache.paths, height=HEIGHT, width=WIDTH)
    other = ImageCache.build(cache.paths, height=HEIGHT, width=WIDTH, crop_scale=1.5)
    expected = list(make_loader(cache, samples).batches())
    assert_same(list(make_loader(lean, samples).batches()), expected)
    assert_same(list(make_loader(other, samples).batches()), expected)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_number_of_threads_does_not_matter(
    num_threads: int, cache: ImageCache, samples: list[Sample]
) -> None:
    expected = list(make_loader(cache, samples).batches())
    assert_same(list(make_loader(cache, samples, num_threads=num_threads).batches()), expected)


def test_resuming_inside_an_epoch(cache: ImageCache, samples: list[Sample]) -> None:
    loader = make_loader(cache, samples)
    loader.set_epoch(4)
    whole = list(loader.batches())
    for start in range(len(loader) + 1):
        resumed = make_loader(cache, samples)
        resumed.set_epoch(4)
        assert_same(list(resumed.batches(start)), whole[start:])


def test_epochs_ranks_and_seeds_differ(cache: ImageCache, samples: list[Sample]) -> None:
    def images(epoch: int = 0, **options: Any) -> torch.Tensor:
        loader = make_loader(cache, samples, **options)
        loader.set_epoch(epoch)
        return next(loader.batches()).images

    first = images()
    assert torch.equal(images(), first)
    for other in (images(epoch=1), images(seed=8), images(rank=1)):
        assert not torch.equal(other, first)


def test_set_epoch_does_not_disturb_a_running_epoch(
    cache: ImageCache, samples: list[Sample]
) -> None:
    expected = list(make_loader(cache, samples).batches())
    loader = make_loader(cache, samples)
    running = loader.batches()
    found = [next(running)]
    loader.set_epoch(1)
    assert_same(found + list(running), expected)


def test_batches_stay_valid_as_long_as_they_are_kept(
    cache: ImageCache, samples: list[Sample]
) -> None:
    loader = make_loader(cache, samples)
    kept, copies = [], []
    for epoch in range(6):
        loader.set_epoch(epoch)
        for number, batch in enumerate(loader.batches()):
            if number % 2:  # the others are given back and used again
                kept.append(batch.images[1:, :2])
                copies.append(batch.images[1:, :2].clone())
    for view, copy in zip(kept, copies, strict=True):
        assert torch.equal(view, copy)


def test_buffers_come_back_when_the_last_view_is_gone() -> None:
    buffers = FloatBuffers((2, 3))
    tensor = buffers.take()
    address, view = tensor.data_ptr(), tensor[0]
    del tensor
    other = buffers.take()
    assert other.data_ptr() != address  # the view still holds it
    del view
    assert buffers.take().data_ptr() == address
    # What autograd saved counts as well.
    tensor = buffers.take().requires_grad_()
    address = tensor.data_ptr()
    loss = tensor.square().sum()
    del tensor
    assert buffers.take().data_ptr() != address
    del loss
    assert address in {buffers.take().data_ptr() for _ in range(1)}


def test_last_batch(cache: ImageCache, samples: list[Sample]) -> None:
    # 6 identities with 5 images give 2 chunks of 2 each: 24 images.
    full = make_loader(cache, samples, batch_size=10)
    assert [len(batch.images) for batch in full.batches()] == [10, 10]
    assert len(full) == 2
    every = make_loader(cache, samples, batch_size=10, drop_last=False)
    assert [len(batch.images) for batch in every.batches()] == [10, 10, 4]
    assert len(every) == 3
    assert_same(list(every.batches())[:2], list(full.batches()))


def test_epochs_of_different_length(cache: ImageCache, samples: list[Sample]) -> None:
    pids = [0] * 14 + [1] * 4 + [2] * 2 + [3] * 4 + [4] * 6
    labelled = [replace(sample, pid=pid) for sample, pid in zip(samples, pids, strict=True)]
    sampler = DistinctIdentitySampler(pids, 6, 2, seed=1)
    augment = BatchAugment(AugmentConfig(crop_prob=0, pad=3), HEIGHT, WIDTH)
    loader = TrainLoader(cache, labelled, sampler, augment, batch_size=6, device=CPU, seed=7)
    lengths = set()
    for epoch in range(12):
        loader.set_epoch(epoch)
        whole = list(loader.batches())
        lengths.add(len(loader))
        assert len(whole) == len(loader) == len(sampler.epoch(epoch)) / 6
        assert all(len(set(batch.pids.tolist())) == 3 for batch in whole)
        assert_same(list(loader.batches(1)), whole[1:])
    assert len(lengths) > 1


def prefetch_threads() -> int:
    return sum(t.name.startswith("reid-prefetch") for t in threading.enumerate())


def test_closing_stops_the_threads(cache: ImageCache, samples: list[Sample]) -> None:
    batches = make_loader(cache, samples).batches()
    next(batches)
    assert prefetch_threads() > 0
    batches.close()
    assert prefetch_threads() == 0


def test_errors_of_the_threads_are_raised_here(
    cache: ImageCache, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the augmentation broke")

    loader = make_loader(cache, samples)
    monkeypatch.setattr(BatchAugment, "apply_float", fail)
    with pytest.raises(RuntimeError, match="the augmentation broke"):
        next(loader.batches())
    assert prefetch_threads() == 0


@pytest.mark.gpu
def test_cuda_gets_the_same_batches(cache: ImageCache, samples: list[Sample]) -> None:
    expected = list(make_loader(cache, samples).batches())
    found = list(make_loader(cache, samples, device=torch.device("cuda")).batches())
    for one, other in zip(found, expected, strict=True):
        assert one.images.device.type == one.pids.device.type == "cuda"
        assert torch.equal(one.images.cpu(), other.images)
        assert torch.equal(one.clothes_ids.cpu(), other.clothes_ids)
        assert torch.equal(one.infrared.cpu(), other.infrared)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 25}, "batch_size=25, and an epoch has 24 images; use a batch_size from 1"),
        ({"seed": -1}, "seed=-1"),
        ({"rank": -1}, "rank=-1"),
    ],
)
def test_loader_arguments(
    options: dict[str, Any], message: str, cache: ImageCache, samples: list[Sample]
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_loader(cache, samples, **options)


def test_parts_that_do_not_belong_together(cache: ImageCache, samples: list[Sample]) -> None:
    with pytest.raises(ValueError, match=r"use cache.select\(samples\)"):
        make_loader(cache, samples[::-1])
    other = ImageCache.build(cache.paths, height=HEIGHT, width=24)
    with pytest.raises(ValueError, match="32 x 24, the augmentation expects 32 x 16"):
        make_loader(other, samples)


def evaluate(source: Any, **options: Any) -> tuple[torch.Tensor, list[int]]:
    arguments: dict[str, Any] = {"batch_size": 8, "device": CPU, **options}
    images, indices = [], []
    for batch in evaluation_batches(source, **arguments):
        assert batch.images.shape == (arguments["batch_size"], 3, HEIGHT, WIDTH)
        assert len(batch.indices)
        images.append(batch.images[: len(batch.indices)])
        indices += batch.indices.tolist()
    return torch.cat(images), indices


def test_evaluation_batches_are_normalised_in_order_and_padded(
    cache: ImageCache, samples: list[Sample]
) -> None:
    pixels = np.stack([decode_resized(s.path, HEIGHT, WIDTH) for s in samples])
    expected = Normalizer(CPU)(torch.from_numpy(pixels))
    stream = ImageStream(cache.paths, height=HEIGHT, width=WIDTH)
    for source in (cache, stream):
        images, indices = evaluate(source)
        assert indices == list(range(NUM_IMAGES))
        assert torch.equal(images, expected)
        *_, last = evaluation_batches(source, batch_size=8, device=CPU)
        assert len(last.indices) == 6
        assert torch.equal(last.images[6], expected[-1])
        assert torch.equal(last.images[7], expected[-1])


@pytest.mark.parametrize("rows", [None, [7, 3, 28, 29, 2]])
def test_evaluation_batches_tell_the_modality(cache: ImageCache, rows: list[int] | None) -> None:
    infrared = np.arange(NUM_IMAGES) % 3 == 2
    indices = None if rows is None else np.array(rows)
    found = list(
        evaluation_batches(cache, batch_size=4, device=CPU, indices=indices, infrared=infrared)
    )
    for batch in found:
        assert batch.infrared is not None
        assert batch.infrared.dtype == torch.bool
        assert batch.infrared.shape == (4,)
        assert batch.infrared[: len(batch.indices)].tolist() == infrared[batch.indices].tolist()
    assert (
        found[-1].infrared[-1] == infrared[found[-1].indices[-1]]
    )  # as the image that is repeated
    plain = evaluation_batches(cache, batch_size=4, device=CPU, indices=indices)
    assert all(batch.infrared is None for batch in plain)


def test_shards_see_the_same_images(cache: ImageCache) -> None:
    whole, _ = evaluate(cache)
    shards = []
    for rank in range(4):
        images, indices = evaluate(cache, indices=inference_indices(NUM_IMAGES, rank, 4))
        assert len(indices) == 8
        shards.append(images)
    assert torch.equal(torch.cat(shards)[:NUM_IMAGES], whole)


def test_evaluation_of_fewer_images_than_a_batch(cache: ImageCache) -> None:
    images, indices = evaluate(cache, batch_size=64)
    assert indices == list(range(NUM_IMAGES))
    assert torch.equal(images, evaluate(cache)[0])
    assert (
        list(evaluation_batches(cache, batch_size=4, device=CPU, indices=np.array([], int))) == []
    )


def test_other_mean_and_deviation(cache: ImageCache) -> None:
    images, _ = evaluate(cache, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.125))
    wanted = torch.from_numpy(cache.images.copy()).float() / 255 - 0.5
    assert torch.equal(images, wanted / torch.tensor([0.5, 0.25, 0.125])[:, None, None])


@pytest.fixture
def with_bad_files(samples: list[Sample], tmp_path: Path) -> list[Path]:
    paths = [sample.path for sample in samples]
    for i in (0, 9, *range(16, 24)):  # a whole batch of 8 among them
        paths[i] = tmp_path / f"bad-{i}.png"
        paths[i].touch()
    return paths


def test_stream_stops_at_a_bad_file(with_bad_files: list[Path]) -> None:
    stream = ImageStream(with_bad_files, height=HEIGHT, width=WIDTH)
    with pytest.raises(ImageFileError, match=r"bad-0\.png: the file is empty"):
        evaluate(stream)


def test_stream_leaves_bad_files_out(cache: ImageCache, with_bad_files: list[Path]) -> None:
    stream = ImageStream(with_bad_files, height=HEIGHT, width=WIDTH, skip_corrupt=True)
    images, indices = evaluate(stream)
    good = [i for i, path in enumerate(with_bad_files) if not path.name.startswith("bad")]
    assert indices == good
    assert torch.equal(images, evaluate(cache)[0][good])
    assert sorted(stream.skipped) == sorted(set(with_bad_files) - {with_bad_files[i] for i in good})
    assert "is empty" in stream.skipped[with_bad_files[0]]


def test_evaluation_batch_size(cache: ImageCache) -> None:
    with pytest.raises(ConfigError, match="batch_size=0 must be at least 1"):
        next(evaluation_batches(cache, batch_size=0, device=CPU))
