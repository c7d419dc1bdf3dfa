"""Plain batches on a device, for evaluation and embedding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_core.data.augment import normalize_pixels
from reid_core.data.augment_config import IMAGENET_MEAN, IMAGENET_STD, Channels
from reid_core.data.buffers import FloatBuffers, pixel_buffer
from reid_core.data.finish import Normalizer, send
from reid_core.data.prefetch import prefetch
from reid_core.data.samplers import Indices
from reid_core.data.stream import ImageSource
from reid_core.errors import ConfigError

__all__ = ["EvaluationBatch", "evaluation_batches"]


class EvaluationBatch(NamedTuple):
    """One batch of images to embed.

    Attributes:
        images: (batch_size, 3, H, W) float32 on the device, normalised. Rows from len(indices) on
            repeat the last image; their features are to be dropped.
        indices: (n,) int64, positions in the source of the first n rows, 1 <= n <= batch_size.
        infrared: (batch_size,) bool on the device, true for infrared images; None where that is
            not known.
    """

    images: Tensor
    indices: Indices
    infrared: Tensor | None = None


def evaluation_batches(
    source: ImageSource,
    *,
    batch_size: int,
    device: torch.device,
    indices: Indices | None = None,
    infrared: npt.NDArray[np.bool_] | None = None,
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
        infrared: (N,) bool, whether each image of the source is an infrared one; None where that
            is not known.
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
            images = pixel_buffer((batch_size, *pixels.shape[1:]), device)
            np.copyto(images.numpy()[: len(kept)], pixels)
        images[len(kept) :] = images[len(kept) - 1]
        return EvaluationBatch(images, kept, _padded(infrared, kept, batch_size))

    with closing(prefetch(prepare, chunks, num_threads=num_threads)) as batches:
        for batch in batches:
            if batch is None:
                continue
            images, modalities = batch.images, batch.infrared
            if device.type != "cpu":
                images = normalize(send(images, device))
            if modalities is not None:
                modalities = send(modalities, device)
            yield EvaluationBatch(images, batch.indices, modalities)


def _padded(
    infrared: npt.NDArray[np.bool_] | None, rows: Indices, batch_size: int
) -> Tensor | None:
    """Return the modalities of a batch whose last image is repeated until it is full."""
    if infrared is None:
        return None
    return torch.from_numpy(np.pad(infrared[rows], (0, batch_size - len(rows)), "edge"))
