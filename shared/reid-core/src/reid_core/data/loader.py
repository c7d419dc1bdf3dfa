"""Batches on a device: augmented ones for training, plain ones for evaluation.

No worker processes: the pixels are already decoded, so two threads of the training process prepare
batches faster than processes could send them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from reid_core.data.augment import AugmentParams, BatchAugment, normalize_pixels
from reid_core.data.augment_config import IMAGENET_MEAN, IMAGENET_STD, Channels
from reid_core.data.buffers import FloatBuffers
from reid_core.data.cache import ImageCache
from reid_core.data.finish import DeviceFinish, Normalizer, send
from reid_core.data.prefetch import prefetch
from reid_core.data.sample import Sample
from reid_core.data.samplers import Indices
from reid_core.data.stream import ImageSource
from reid_core.errors import ConfigError

__all__ = ["Batch", "EpochSampler", "EvaluationBatch", "TrainLoader", "evaluation_batches"]


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
        indices: (B,) int64, positions in the training list.
        paths: The B image files.
    """

    images: Tensor
    pids: Tensor
    camids: Tensor
    clothes_ids: Tensor
    indices: Indices
    paths: tuple[Path, ...]


class _HostBatch(NamedTuple):
    """A batch before it goes to the device: float32 for the CPU, uint8 for any other."""

    images: Tensor
    indices: Indices
    params: AugmentParams


class TrainLoader:
    """Augmented training batches, prepared ahead in threads.

    Batch b of epoch e depends on (seed, e, b, rank) and the data only, not on what was asked for
    before: resuming inside an epoch gives the same batches. A CPU gets finished float batches; any
    other device gets uint8 pixels (from pinned memory on CUDA, without waiting for it) and
    normalises and erases itself, with equal results.

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
        if (cache.height, cache.width) != (augment.height, augment.width):
            raise ValueError(
                f"the cache holds images of {cache.height} x {cache.width}, the augmentation "
                f"expects {augment.height} x {augment.width}"
            )
        if min(seed, rank) < 0:
            raise ConfigError(f"seed={seed} and rank={rank} must not be negative.")
        if batch_size < 1 or len(sampler) < (batch_size if drop_last else 1):
            raise ConfigError(
                f"no batch can be made: batch_size={batch_size}, and an epoch has "
                f"{len(sampler)} images; use a batch_size from 1 to {len(sampler)}."
            )
        self._cache = cache
        self._enlarged = cache.enlarged
        if cache.spec.enlarged_size != augment.enlarged_size:
            self._enlarged = None
        self._paths = cache.paths
        labels = [(sample.pid, sample.camid, sample.clothes_id) for sample in samples]
        self._labels = np.array(labels, np.int64).T  # (3, N)
        self._sampler = sampler
        self._augment = augment
        self._batch_size = batch_size
        self._device = device
        self._seed = seed
        self._rank = rank
        self._drop_last = drop_last
        self._num_threads = num_threads
        self._finish = DeviceFinish(augment.config, device)
        self._buffers = FloatBuffers((batch_size, 3, augment.height, augment.width))
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

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of the current epoch.

        Args:
            start: Number of batches to leave out at the beginning, to resume inside an epoch.

        Yields:
            Batches; each stays valid as long as it is kept.
        """
        steps = range(start, len(self))
        # The epoch's order is bound now: a later set_epoch must not mix two epochs.
        epoch, order = self._epoch, self._order
        host_batches = prefetch(
            lambda step: self._prepare(epoch, order, step), steps, num_threads=self._num_threads
        )
        with closing(host_batches):
            for host in host_batches:
                yield self._deliver(host)

    def _prepare(self, epoch: int, order: Indices, step: int) -> _HostBatch:
        indices = order[step * self._batch_size : (step + 1) * self._batch_size]
        rng = np.random.default_rng([self._seed, epoch, step, self._rank])
        params = self._augment.draw(rng, len(indices))
        pixels = [self._cache.images[i] for i in indices]
        enlarged = None if self._enlarged is None else [self._enlarged[i] for i in indices]
        if self._device.type == "cpu":
            images = self._buffers.take()[: len(indices)]
            self._augment.apply_float(pixels, params, enlarged=enlarged, out=images.numpy())
        else:
            shape = (len(indices), 3, self._augment.height, self._augment.width)
            images = _empty_pixels(shape, self._device)
            self._augment.apply_uint8(pixels, params, enlarged=enlarged, out=images.numpy())
        return _HostBatch(images, indices, params)

    def _deliver(self, host: _HostBatch) -> Batch:
        images = host.images
        if self._device.type != "cpu":
            images = self._finish(send(images, self._device), host.params)
        labels = torch.from_numpy(self._labels.take(host.indices, axis=1))  # (3, B)
        pids, camids, clothes_ids = send(labels, self._device).unbind(0)
        paths = tuple(self._paths[i] for i in host.indices)
        return Batch(images, pids, camids, clothes_ids, host.indices, paths)


class EvaluationBatch(NamedTuple):
    """One batch of images to embed.

    Attributes:
        images: (batch_size, 3, H, W) float32 on the device, normalised. Rows from len(indices) on
            repeat the last image; their features are to be dropped.
        indices: (n,) int64, positions in the source of the first n rows, 1 <= n <= batch_size.
    """

    images: Tensor
    indices: Indices


def evaluation_batches(
    source: ImageSource,
    *,
    batch_size: int,
    device: torch.device,
    indices: Indices | None = None,
    mean: Channels = IMAGENET_MEAN,
    std: Channels = IMAGENET_STD,
    num_threads: int = 2,
) -> Iterator[EvaluationBatch]:
    """Yield images for evaluation, in order, in batches of one fixed size.

    Kernels may add in another order for another batch size; with every batch filled up to the same
    size, the features of an image do not depend on where in the list or on which process it is.

    Args:
        source: ``ImageCache``, or ``ImageStream`` for a folder too large to keep.
        batch_size: Rows of every batch, the last one included.
        device: Where the batches go.
        indices: Positions to yield, e.g. ``own_share`` of a process; by default all.
        mean: Per channel, of values in [0, 1].
        std: Per channel, of values in [0, 1].
        num_threads: Threads that read; each works on one batch, so about 2 ``num_threads`` batches
            are in memory. A stream needs one per core.

    Yields:
        Batches. Images that a stream skips are missing from ``indices``; batches without any
        readable image are left out.

    Raises:
        ConfigError: ``batch_size`` is not positive.
        ImageFileError: A stream meets an unreadable image that it may not skip.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} must be at least 1.")
    chosen = np.arange(len(source), dtype=np.int64) if indices is None else indices
    chunks = [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]
    buffers = FloatBuffers((batch_size, 3, source.height, source.width))
    normalize = Normalizer(device, mean, std)

    def prepare(chunk: Indices) -> EvaluationBatch | None:
        pixels, kept = source.read(chunk)
        if not len(kept):
            return None
        if device.type == "cpu":
            images = buffers.take()
            for row, image in zip(images.numpy(), pixels, strict=False):
                normalize_pixels(image, mean, std, out=row)
        else:
            images = _empty_pixels((batch_size, *pixels.shape[1:]), device)
            np.copyto(images.numpy()[: len(kept)], pixels)
        images[len(kept) :] = images[len(kept) - 1]
        return EvaluationBatch(images, kept)

    with closing(prefetch(prepare, chunks, num_threads=num_threads)) as batches:
        for batch in batches:
            if batch is None:
                continue
            images = batch.images
            if device.type != "cpu":
                images = normalize(send(images, device))
            yield EvaluationBatch(images, batch.indices)


def _empty_pixels(shape: tuple[int, ...], device: torch.device) -> Tensor:
    # PyTorch keeps pinned blocks for the next batch and knows when a copy from them has ended.
    return torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
