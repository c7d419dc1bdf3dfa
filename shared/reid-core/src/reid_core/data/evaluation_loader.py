"""Plain batches on a device, for evaluation and embedding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from reid_core.data.images import Pixels
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
        companions: One (batch_size, 3, h, w) float32 on the device per kind of companion,
            normalised; exactly zero for images that have none.
    """

    images: Tensor
    indices: Indices
    infrared: Tensor | None = None
    companions: tuple[Tensor, ...] = ()


def evaluation_batches(
    source: ImageSource,
    *,
    batch_size: int,
    device: torch.device,
    indices: Indices | None = None,
    infrared: npt.NDArray[np.bool_] | None = None,
    companions: Sequence[ImageSource] = (),
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
        companions: Further pictures beside each image, such as ``SparseImages``: sources as long as
            the list, which leave out the images that have none.
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
        ValueError: Companions belong to another list.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} must be at least 1.")
    chosen = np.arange(len(source), dtype=np.int64) if indices is None else indices
    chunks = [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]
    images, *others = (
        _Pictures(pictures, batch_size, device, mean, std) for pictures in (source, *companions)
    )
    if any(len(pictures) != len(source) for pictures in companions):
        sizes = ", ".join(str(len(pictures)) for pictures in companions)
        raise ValueError(f"companions of {sizes} images beside {len(source)} images")

    def prepare(chunk: Indices) -> _HostBatch | None:
        pixels, kept = source.read(chunk)
        if not len(kept):
            return None
        pictures = [images.fill(pixels, np.arange(len(kept)), len(kept))]
        for other in others:
            pixels, found = other.source.read(kept)
            pictures.append(other.fill(pixels, np.flatnonzero(np.isin(kept, found)), len(kept)))
        return _HostBatch(pictures, kept, _padded(infrared, kept, batch_size))

    with closing(prefetch(prepare, chunks, num_threads=num_threads)) as batches:
        for batch in batches:
            if batch is None:
                continue
            modalities = batch.infrared
            if modalities is not None:
                modalities = send(modalities, device)
            first, *rest = (
                kind.finish(picture)
                for kind, picture in zip((images, *others), batch.pictures, strict=True)
            )
            yield EvaluationBatch(first, batch.indices, modalities, tuple(rest))


class _Picture(NamedTuple):
    """Pictures of one kind of a batch, before they go to the device.

    Attributes:
        values: (B, 3, H, W), float32 and normalised for the CPU, uint8 for any other device.
        present: (B,) bool, which images have one; None where all do.
    """

    values: Tensor
    present: Tensor | None


class _HostBatch(NamedTuple):
    """A batch before it goes to the device; the images are the first of its pictures."""

    pictures: list[_Picture]
    indices: Indices
    infrared: Tensor | None


class _Pictures:
    """Batches of the pictures of one kind, such as the images themselves.

    Args:
        source: Where they are read from.
        batch_size: B.
        device: Where the batches go.
        mean: Per channel.
        std: Per channel.
    """

    def __init__(
        self,
        source: ImageSource,
        batch_size: int,
        device: torch.device,
        mean: Channels,
        std: Channels,
    ) -> None:
        self.source = source
        self._device = device
        self._mean, self._std = mean, std
        self._shape = (batch_size, 3, source.height, source.width)
        self._buffers = FloatBuffers(self._shape)
        self._normalize = Normalizer(device, mean, std)

    def fill(self, pixels: Pixels, rows: Indices, count: int) -> _Picture:
        """Return a batch on the host; may be called from several threads.

        Args:
            pixels: (n, 3, H, W) uint8.
            rows: (n,) int64, their rows.
            count: Images in the batch; the rows from there on repeat the last one.
        """
        missing = np.delete(np.arange(count), rows)
        if self._device.type == "cpu":
            values = self._buffers.take()
            array = values.numpy()
            for row, image in zip(rows, pixels, strict=True):
                normalize_pixels(image, self._mean, self._std, out=array[row])
        else:
            values = pixel_buffer(self._shape, self._device)
            array = values.numpy()
            array[rows] = pixels
        array[missing] = 0
        array[count:] = array[count - 1]
        if not len(missing):
            return _Picture(values, None)
        present = np.ones(len(array), np.bool_)
        present[missing] = False
        present[count:] = present[count - 1]
        return _Picture(values, torch.from_numpy(present))

    def finish(self, picture: _Picture) -> Tensor:
        """Return a batch on the device, normalised; zero where there is no picture."""
        if self._device.type == "cpu":
            return picture.values
        values = self._normalize(send(picture.values, self._device))
        if picture.present is None:
            return values
        present = send(picture.present, self._device)[:, None, None, None]
        return torch.where(present, values, 0.0)


def _padded(
    infrared: npt.NDArray[np.bool_] | None, rows: Indices, batch_size: int
) -> Tensor | None:
    """Return the modalities of a batch whose last image is repeated until it is full."""
    if infrared is None:
        return None
    return torch.from_numpy(np.pad(infrared[rows], (0, batch_size - len(rows)), "edge"))
