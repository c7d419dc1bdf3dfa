"""Training batches of the pictures of an image: body, face crop, restored face and mask.

Legend: B images of a batch, H x W pixels of a body, h x w of a face.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid_core.data.augment import AugmentParams, BatchAugment
from reid_core.data.buffers import pixel_buffer
from reid_core.data.cache import ImageCache
from reid_core.data.finish import send
from reid_core.data.loader import AugmentedImages, EpochBatches, EpochSampler
from reid_core.data.sample import Sample
from reid_core.data.samplers import Indices
from reid_deskpro.augment import apply_to_masks, draw_params, share_draws
from reid_deskpro.stage_config import SyncAugmentConfig

__all__ = ["PictureBatch", "PictureLoader"]

_FACES = ("lr_face", "hr_face")


@dataclass(frozen=True)
class PictureBatch:
    """One training batch of B images; what the loader does not have is None.

    Attributes:
        images: (B, 3, H, W) float32 on the device, augmented and normalised.
        lr_face: (B, 3, h, w) float32, the face crops, in the same way.
        hr_face: (B, 3, h, w) float32, the restored faces, in the same way.
        masks: (B, 1, H, W) float32 in [0, 1], moved as the images, 1 where there are no clothes.
        pids: (B,) int64 on the device.
        paths: The B image files.
    """

    images: Tensor
    lr_face: Tensor | None
    hr_face: Tensor | None
    masks: Tensor | None
    pids: Tensor
    paths: tuple[Path, ...]


class _HostBatch(NamedTuple):
    """A batch before it goes to the device; the masks are uint8."""

    pictures: Mapping[str, Tensor]
    masks: Tensor | None
    params: Mapping[str, AugmentParams]
    indices: Indices


class PictureLoader(EpochBatches[_HostBatch, PictureBatch]):
    """Augmented training batches, prepared ahead in threads.

    Batch b of epoch e depends on (seed, e, b, rank) and the data only, so that resuming inside an
    epoch gives the same batches. The pictures of an image share their draws.

    Args:
        images: Pixels of the training images.
        companions: Pixels of ``lr_face``, ``hr_face`` and ``mask`` as far as they are wanted, in
            the order of the images; masks have the images' size.
        samples: The training list, one sample per image.
        sampler: Order of the images in each epoch.
        config: Augmentation.
        batch_size: B.
        device: Where the batches go.
        seed: Seed of the augmentation, not negative.
        rank: This process, so that processes draw different augmentations.

    Raises:
        ConfigError: An epoch has no batch.
        ValueError: Caches and samples differ in number.
    """

    def __init__(
        self,
        images: ImageCache,
        companions: Mapping[str, ImageCache],
        samples: Sequence[Sample],
        sampler: EpochSampler,
        config: SyncAugmentConfig,
        *,
        batch_size: int,
        device: torch.device,
        seed: int,
        rank: int = 0,
    ) -> None:
        counts = {len(samples), len(images), *(len(cache) for cache in companions.values())}
        if len(counts) > 1:
            raise ValueError(f"the caches and the samples differ in number: {sorted(counts)}")
        caches = {"images": images}
        caches |= {kind: companions[kind] for kind in _FACES if kind in companions}
        self._augments = {
            kind: BatchAugment(config, cache.height, cache.width) for kind, cache in caches.items()
        }
        self._pictures = {
            kind: AugmentedImages(cache, self._augments[kind], batch_size=batch_size, device=device)
            for kind, cache in caches.items()
        }
        self._masks = companions.get("mask")
        self._config = config
        self._device = device
        self._pids = np.array([sample.pid for sample in samples], np.int64)
        self._paths = [sample.path for sample in samples]
        super().__init__(
            sampler,
            partial(self._make, seed, rank),
            self._finish,
            batch_size=batch_size,
        )

    def _make(self, seed: int, rank: int, epoch: int, step: int, indices: Indices) -> _HostBatch:
        draws = share_draws(self._config, (seed, epoch, step, rank), len(indices))
        params = {kind: draw_params(draws, augment) for kind, augment in self._augments.items()}
        pictures = {
            kind: images.prepare(indices, params[kind]) for kind, images in self._pictures.items()
        }
        masks = None
        if self._masks is not None:
            augment = self._augments["images"]
            masks = pixel_buffer((len(indices), 1, augment.height, augment.width), self._device)
            enlarged = self._masks.enlarged
            apply_to_masks(
                [self._masks.images[i] for i in indices],
                params["images"],
                augment,
                enlarged=None if enlarged is None else [enlarged[i] for i in indices],
                out=masks.numpy(),
            )
        return _HostBatch(pictures, masks, params, indices)

    def _finish(self, host: _HostBatch) -> PictureBatch:
        found = {
            kind: self._pictures[kind].deliver(pixels, host.params[kind])
            for kind, pixels in host.pictures.items()
        }
        masks = None
        if host.masks is not None:
            # Divided by a tensor, as images are: by a number, CUDA would round differently.
            white = torch.tensor(255.0, device=self._device)
            masks = send(host.masks, self._device).to(torch.float32).div_(white)
        return PictureBatch(
            images=found["images"],
            lr_face=found.get("lr_face"),
            hr_face=found.get("hr_face"),
            masks=masks,
            pids=send(torch.from_numpy(self._pids[host.indices]), self._device),
            paths=tuple(self._paths[i] for i in host.indices),
        )
