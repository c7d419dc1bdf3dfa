"""Augmented batches on a device, for training.

No worker processes: the pixels are already decoded, so two threads of the training process prepare
batches faster than processes could send them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from reid_core.data.augment import AugmentParams, BatchAugment
from reid_core.data.buffers import FloatBuffers, pixel_buffer
from reid_core.data.cache import ImageCache
from reid_core.data.finish import DeviceFinish, send
from reid_core.data.prefetch import prefetch
from reid_core.data.sample import Sample
from reid_core.data.samplers import Indices
from reid_core.errors import ConfigError

__all__ = ["AugmentedImages", "Batch", "EpochBatches", "EpochSampler", "TrainLoader"]

Host = TypeVar("Host")
Delivered = TypeVar("Delivered")


class EpochSampler(Protocol):
    """What gives the order of an epoch; ``IdentityChunkSampler`` is one."""

    def __len__(self) -> int:
        """Return the number of indices that every epoch has at least."""

    def epoch(self, epoch: int) -> Indices:
        """Return the image indices of one epoch in order."""


@dataclass(frozen=True)
class Batch:
    """One training batch of B images.

    Attributes:
        images: (B, 3, H, W) float32 on the device, augmented and normalised.
        pids: (B,) int64 on the device.
        camids: (B,) int64 on the device.
        clothes_ids: (B,) int64 on the device, -1 where there is no label.
        infrared: (B,) bool on the device, true for infrared images.
        indices: (B,) int64, positions in the training list.
        paths: The B image files.
    """

    images: Tensor
    pids: Tensor
    camids: Tensor
    clothes_ids: Tensor
    infrared: Tensor
    indices: Indices
    paths: tuple[Path, ...]


class _HostBatch(NamedTuple):
    """A batch before it goes to the device."""

    images: Tensor
    indices: Indices
    params: AugmentParams


class AugmentedImages:
    """Augmented batches of the images of a cache, begun on the host and finished on a device.

    The CPU gets finished float batches from the host; for any other device the host makes uint8
    pixels (in pinned memory for CUDA, sent without waiting for it), which the device normalises and
    erases, with equal results.

    Args:
        cache: Pixels; its enlarged versions are used where it has them.
        augment: Augmentation for the cache's size.
        batch_size: Most images of a batch.
        device: Where the batches go.

    Raises:
        ValueError: ``augment`` does not belong to the cache.
    """

    def __init__(
        self, cache: ImageCache, augment: BatchAugment, *, batch_size: int, device: torch.device
    ) -> None:
        if (cache.height, cache.width) != (augment.height, augment.width):
            raise ValueError(
                f"the cache holds images of {cache.height} x {cache.width}, the augmentation "
                f"expects {augment.height} x {augment.width}"
            )
        self._cache = cache
        self._enlarged = cache.enlarged
        if cache.spec.enlarged_size != augment.enlarged_size:
            self._enlarged = None
        self._augment = augment
        self._device = device
        self._finish = DeviceFinish(augment.config, device)
        self._buffers = FloatBuffers((batch_size, 3, augment.height, augment.width))

    def prepare(self, indices: Indices, params: AugmentParams) -> Tensor:
        """Make a batch on the host; may be called from several threads.

        Args:
            indices: (B,) positions in the cache.
            params: What was drawn for them.

        Returns:
            (B, 3, H, W): float32 for the CPU, uint8 for any other device.
        """
        pixels = [self._cache.images[i] for i in indices]
        enlarged = None if self._enlarged is None else [self._enlarged[i] for i in indices]
        if self._device.type == "cpu":
            images = self._buffers.take()[: len(indices)]
            self._augment.apply_float(pixels, params, enlarged=enlarged, out=images.numpy())
        else:
            shape = (len(indices), 3, self._augment.height, self._augment.width)
            images = pixel_buffer(shape, self._device)
            self._augment.apply_uint8(pixels, params, enlarged=enlarged, out=images.numpy())
        return images

    def deliver(self, images: Tensor, params: AugmentParams) -> Tensor:
        """Return what ``prepare`` made as (B, 3, H, W) float32 on the device, normalised."""
        if self._device.type == "cpu":
            return images
        return self._finish(send(images, self._device), params)


class EpochBatches(Generic[Host, Delivered]):
    """Batches of one epoch after the other, prepared ahead in threads.

    Args:
        sampler: Order of the images in each epoch.
        prepare: From epoch, number of the batch and positions of its images to the batch on the
            host; called in threads, so it must depend on its arguments only.
        deliver: From that to the finished batch.
        batch_size: B, images per batch.
        drop_last: Leave out a last batch of fewer than B images.
        num_threads: Threads that prepare batches; each works on one batch.

    Raises:
        ConfigError: An epoch has no batch.
    """

    def __init__(
        self,
        sampler: EpochSampler,
        prepare: Callable[[int, int, Indices], Host],
        deliver: Callable[[Host], Delivered],
        *,
        batch_size: int,
        drop_last: bool = True,
        num_threads: int = 2,
    ) -> None:
        if batch_size < 1 or len(sampler) < (batch_size if drop_last else 1):
            raise ConfigError(
                f"no batch can be made: batch_size={batch_size}, and an epoch has "
                f"{len(sampler)} images; use a batch_size from 1 to {len(sampler)}."
            )
        self._sampler = sampler
        self._prepare = prepare
        self._deliver = deliver
        self._batch_size = batch_size
        self._drop_last = drop_last
        self._num_threads = num_threads
        self._epoch = 0
        self._order: Indices = sampler.epoch(0)

    def __len__(self) -> int:
        """Return the number of batches of the current epoch."""
        full, rest = divmod(len(self._order), self._batch_size)
        return full if self._drop_last or not rest else full + 1

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, whose batches come next."""
        self._epoch = epoch
        self._order = self._sampler.epoch(epoch)

    def batches(self, start: int = 0) -> Iterator[Delivered]:
        """Yield the batches of the current epoch.

        Args:
            start: Number of batches to leave out at the beginning, to resume inside an epoch.

        Yields:
            Batches; each stays valid as long as it is kept.
        """
        steps = range(start, len(self))
        # The epoch's order is bound now: a later set_epoch must not mix two epochs.
        epoch, order, size = self._epoch, self._order, self._batch_size
        host_batches = prefetch(
            lambda step: self._prepare(epoch, step, order[step * size : (step + 1) * size]),
            steps,
            num_threads=self._num_threads,
        )
        with closing(host_batches):
            for host in host_batches:
                yield self._deliver(host)


class TrainLoader(EpochBatches[_HostBatch, Batch]):
    """Augmented training batches, prepared ahead in threads.

    Batch b of epoch e depends on (seed, e, b, rank) and the data only, not on what was asked for
    before: resuming inside an epoch gives the same batches. On what the host does and what the
    device, see ``AugmentedImages``.

    Args:
        cache: Pixels of the training images; its enlarged versions are used where it has them.
        samples: The training list, one sample per image of the cache in the same order
            (``cache.select(train)``).
        sampler: Order of the images in each epoch.
        augment: Augmentation for the cache's size.
        batch_size: B, images per batch.
        device: Where the batches go.
        seed: Seed of the augmentation, not negative.
        rank: This process, so that processes draw different augmentations.
        drop_last: Leave out a last batch of fewer than B images.
        num_threads: Threads that prepare batches; each works on one batch.

    Raises:
        ConfigError: An epoch has no batch, or a number is out of range.
        ValueError: ``samples`` or ``augment`` do not belong to the cache.
    """

    def __init__(
        self,
        cache: ImageCache,
        samples: Sequence[Sample],
        sampler: EpochSampler,
        augment: BatchAugment,
        *,
        batch_size: int,
        device: torch.device,
        seed: int,
        rank: int = 0,
        drop_last: bool = True,
        num_threads: int = 2,
    ) -> None:
        if cache.paths != tuple(sample.path for sample in samples):
            raise ValueError("samples and cache hold different images; use cache.select(samples)")
        if min(seed, rank) < 0:
            raise ConfigError(f"seed={seed} and rank={rank} must not be negative.")
        self._images = AugmentedImages(cache, augment, batch_size=batch_size, device=device)
        self._paths = cache.paths
        self._labels = np.array([_labels(sample) for sample in samples], np.int64).T  # (4, N)
        self._augment = augment
        self._device = device
        self._seed = seed
        self._rank = rank
        super().__init__(
            sampler,
            self._make,
            self._finish,
            batch_size=batch_size,
            drop_last=drop_last,
            num_threads=num_threads,
        )

    def _make(self, epoch: int, step: int, indices: Indices) -> _HostBatch:
        rng = np.random.default_rng([self._seed, epoch, step, self._rank])
        params = self._augment.draw(rng, len(indices))
        return _HostBatch(self._images.prepare(indices, params), indices, params)

    def _finish(self, host: _HostBatch) -> Batch:
        images = self._images.deliver(host.images, host.params)
        labels = torch.from_numpy(self._labels.take(host.indices, axis=1))  # (4, B)
        pids, camids, clothes_ids, infrared = send(labels, self._device).unbind(0)
        paths = tuple(self._paths[i] for i in host.indices)
        return Batch(images, pids, camids, clothes_ids, infrared.bool(), host.indices, paths)


def _labels(sample: Sample) -> tuple[int, int, int, bool]:
    return sample.pid, sample.camid, sample.clothes_id, sample.modality == "infrared"
