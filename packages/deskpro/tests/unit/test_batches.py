"""The loader of four pictures per image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.data.augment import BatchAugment
from reid_core.data.cache import ImageCache
from reid_core.data.sample import Sample
from reid_core.data.samplers import DistinctIdentitySampler
from reid_core.errors import ConfigError
from reid_deskpro.augment import draw_params, share_draws
from reid_deskpro.batches import PictureLoader
from reid_deskpro.stage_config import SyncAugmentConfig

CONFIG = SyncAugmentConfig()
COUNT, PEOPLE = 24, 4
BODY, FACE = (64, 32), (40, 40)
SIZES = {"images": BODY, "lr_face": FACE, "hr_face": FACE, "mask": BODY}


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Return caches of every kind of picture; those of masks have equal channels."""
    folder, rng, found = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0), {}
    for kind, size in SIZES.items():
        paths = [folder / f"{kind}-{number:02d}.png" for number in range(COUNT)]
        for path in paths:
            shape = size if kind == "mask" else (*size, 3)
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
        scale = CONFIG.crop_scale
        height, width = size
        found[kind] = ImageCache.build(paths, height=height, width=width, crop_scale=scale)
    return found


@pytest.fixture(scope="module")
def samples(caches):
    return [
        Sample(path=path, pid=number % PEOPLE, camid=0)
        for number, path in enumerate(caches["images"].paths)
    ]


def loader(caches, samples, kinds=("lr_face", "hr_face", "mask"), config=CONFIG, **options):
    pids = [sample.pid for sample in samples]
    return PictureLoader(
        caches["images"],
        {kind: caches[kind] for kind in kinds},
        samples,
        DistinctIdentitySampler(pids, 6, 3, 1),
        config,
        **{"batch_size": 6, "device": torch.device("cpu"), "seed": 1, **options},
    )


def test_pictures_belong_to_their_images(caches, samples):
    ours = loader(caches, samples)
    batch = next(ours.batches())
    indices = [samples.index(next(s for s in samples if s.path == p)) for p in batch.paths]
    assert batch.pids.tolist() == [samples[index].pid for index in indices]
    draws = share_draws(CONFIG, (1, 0, 0, 0), 6)
    for kind, found in (("images", batch.images), ("lr_face", batch.lr_face)):
        augment = BatchAugment(CONFIG, *SIZES[kind])
        pixels = [caches[kind].images[index] for index in indices]
        expected = augment.apply_float(pixels, draw_params(draws, augment))
        np.testing.assert_array_equal(found.numpy(), expected)
    assert batch.hr_face.shape == (6, 3, *FACE)


def test_masks_are_neither_normalised_nor_erased(caches, samples):
    for batch in loader(caches, samples).batches():
        assert batch.masks.shape == (6, 1, *BODY)
        assert batch.masks.dtype == torch.float32
        assert 0 <= batch.masks.min() < batch.masks.max() <= 1
        steps = batch.masks * 255
        assert torch.allclose(steps, steps.round(), atol=1e-4)


def test_what_is_not_wanted_is_none(caches, samples):
    batch = next(loader(caches, samples, kinds=("mask",)).batches())
    assert batch.lr_face is None
    assert batch.hr_face is None
    assert batch.masks is not None
    batch = next(loader(caches, samples, kinds=("lr_face",)).batches())
    assert batch.masks is None
    assert batch.lr_face is not None


@pytest.mark.parametrize("rng", ["sample", "worker"])
def test_a_resumed_epoch_has_the_same_batches(caches, samples, rng):
    config = replace(CONFIG, rng=rng)
    whole = loader(caches, samples, config=config)
    whole.set_epoch(3)
    expected = list(whole.batches())
    assert len(expected) == len(whole) > 2
    resumed = loader(caches, samples, config=config)
    resumed.set_epoch(3)
    for wanted, found in zip(expected[2:], resumed.batches(2), strict=True):
        assert found.paths == wanted.paths
        for name in ("images", "lr_face", "hr_face", "masks", "pids"):
            assert torch.equal(getattr(found, name), getattr(wanted, name)), name


def test_processes_draw_differently(caches, samples):
    first, second = (next(loader(caches, samples, rank=rank).batches()) for rank in (0, 1))
    assert first.paths == second.paths
    assert not torch.equal(first.images, second.images)


def test_refuses(caches, samples):
    with pytest.raises(ValueError, match="differ in number"):
        loader(caches, samples[:-1])
    with pytest.raises(ConfigError, match="no batch can be made"):
        loader(caches, samples, batch_size=600)


@pytest.mark.gpu
def test_a_device_gets_the_same_numbers(caches, samples):
    expected = next(loader(caches, samples).batches())
    found = next(loader(caches, samples, device=torch.device("cuda")).batches())
    for name in ("images", "lr_face", "hr_face", "masks", "pids"):
        assert torch.equal(getattr(found, name).cpu(), getattr(expected, name)), name
