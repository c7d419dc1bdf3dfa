"""Decode once: all images of a split as uint8 pixels of one size, in memory or in a mapped file.

Decoding and resizing is the only slow step of the input pipeline and gives the same result every
time, so it is done once per data set and size. An image costs 3 H W bytes (98 kB at 256 x 128,
221 kB at 384 x 192); with the enlarged version that random crops are cut from, 2.27 times that.
A cache file may be deleted at any time: it is built again when it is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from reid_core.data.cache_file import CacheFile, Skipped
from reid_core.data.cache_spec import CacheSpec, content_key
from reid_core.data.images import Interpolation, Pixels, describe_failures, read_image
from reid_core.data.prefetch import available_cpus, prefetch
from reid_core.data.stream import ReadImages
from reid_core.errors import ConfigError, DatasetError, ImageFileError

__all__ = ["CacheSpec", "ImageCache"]

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Entry = TypeVar("Entry")


class ImageCache:
    """The pixels of a list of images; made by ``build``.

    A cache in a file is mapped, not read: it takes address space, and the system's page cache as
    far as there is room. It can be sent to worker processes, which map the same file.

    Attributes:
        paths: The N image files whose pixels are here, in the order asked for.
        kept: (N,) int64, their positions in the list asked for.
        skipped: Files left out because they cannot be read, and why.
        images: (N, 3, H, W) uint8 RGB, read-only.
        enlarged: (N, 3, H', W') uint8, read-only; None where not asked for.
        spec: Sizes and filters.
    """

    def __init__(
        self,
        spec: CacheSpec,
        requested: Sequence[Path],
        records: Pixels,
        skipped: Sequence[Skipped],
        file: CacheFile | None = None,
    ) -> None:
        self.spec = spec
        self._file = file
        self._requested = tuple(requested)
        bad = [position for position, _ in skipped]
        self.kept = np.delete(np.arange(len(requested), dtype=np.int64), bad)
        self.paths = tuple(self._requested[i] for i in self.kept)
        self.skipped = {self._requested[position]: why for position, why in skipped}
        self._attach(records)

    @property
    def file(self) -> Path | None:
        """The cache file; None for a cache in memory."""
        return None if self._file is None else self._file.path

    @property
    def height(self) -> int:
        """Height of the images in pixels."""
        return self.spec.height

    @property
    def width(self) -> int:
        """Width of the images in pixels."""
        return self.spec.width

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the entries (samples, labels) of the images that are here.

        Args:
            entries: One per path asked for, in the same order.

        Returns:
            One per image, in the order of ``images``.
        """
        if len(entries) != len(self._requested):
            raise ValueError(f"{len(entries)} entries for {len(self._requested)} images")
        return [entries[i] for i in self.kept.tolist()]

    def read(self, indices: npt.NDArray[np.int64]) -> ReadImages:
        """Return copies of some images; as ``ImageStream.read``, but nothing can fail here."""
        images = np.empty((len(indices), 3, self.height, self.width), np.uint8)
        for target, index in zip(images, indices, strict=True):
            np.copyto(target, self.images[index])
        return ReadImages(images, indices)

    @classmethod
    def build(
        cls,
        paths: Sequence[Path],
        *,
        height: int,
        width: int,
        interpolation: Interpolation = "bilinear",
        crop_scale: float | None = None,
        folder: Path | None = None,
        skip_corrupt: bool = False,
        progress: Progress | None = None,
        num_threads: int | None = None,
    ) -> ImageCache:
        """Decode and resize all images, or map the file in which this was done before.

        A cache file is found again by a hash over the paths, sizes and modification times of the
        images, the size and filters, and the versions of Pillow and its JPEG decoder: when any of
        them changes a new file is made. Several processes may build the same cache at once; each
        writes its own temporary file and the last rename wins, with equal contents. (To decode only
        once, let one process build and the others wait and build after it.)

        Args:
            paths: Image files, at least one.
            height: Height in pixels.
            width: Width in pixels.
            interpolation: Filter of the resize.
            crop_scale: As in ``CacheSpec``.
            folder: Folder of the cache file, made where missing; None keeps the pixels in memory.
            skip_corrupt: Leave unreadable images out instead of stopping.
            progress: Called as ``progress(done, total)`` after every image, from this thread.
            num_threads: Decoding threads; by default one per available core.

        Raises:
            ImageFileError: Images cannot be read (without ``skip_corrupt``), or none can. All files
                are tried first, so that the message has their number; five are named.
            OutputError: The disk has no room or the folder cannot be written; says how many bytes
                are needed and available. Nothing is left behind.
            ConfigError: The pixels do not fit into memory.
            DatasetError: ``paths`` is empty.
        """
        if not paths:
            raise DatasetError("there are no images to read: the list of files is empty.")
        spec = CacheSpec(
            height=height, width=width, interpolation=interpolation, crop_scale=crop_scale
        )
        threads = num_threads or available_cpus()
        if folder is None:
            records, skipped = _fill_memory(spec, paths, skip_corrupt, threads, progress)
            return cls(spec, paths, records, skipped)
        key = content_key(spec, paths)
        file = CacheFile(folder / f"images-{height}x{width}-{key[:16]}.cache", key)
        mapped = file.open()
        if mapped is not None and _still_skipped(mapped.skipped, paths, skip_corrupt):
            _log.info("using the image cache %s", file.path)
            if progress is not None:
                progress(len(paths), len(paths))
        else:
            size = len(paths) * spec.record_bytes / 1e9
            _log.info("keeping decoded images in %s (%.1f GB)", file.path, size)
            mapped = file.write(
                partial(_encode_all, spec, paths, skip_corrupt, threads, progress),
                num_records=len(paths),
                record_bytes=spec.record_bytes,
            )
        return cls(spec, paths, mapped.records, mapped.skipped, file)

    def _attach(self, records: Pixels) -> None:
        spec, count = self.spec, len(self.paths)
        split = spec.image_bytes
        records.flags.writeable = False
        self._records = records
        self.images = records[:, :split].reshape(count, 3, spec.height, spec.width)
        self.enlarged: Pixels | None = None
        if spec.crop_scale is not None:
            self.enlarged = records[:, split:].reshape(count, 3, *spec.enlarged_size)

    def __getstate__(self) -> dict[str, Any]:
        # The views are made again on the other side; mapped pixels travel as the name of the file.
        state = {k: v for k, v in self.__dict__.items() if k not in {"images", "enlarged"}}
        if self._file is not None:
            del state["_records"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._file is None:
            self._attach(self._records)
            return
        mapped = self._file.open()
        if mapped is None:
            raise DatasetError(f"the image cache {self.file} is gone or was replaced; run again.")
        self._attach(mapped.records)


def _encode_all(
    spec: CacheSpec,
    paths: Sequence[Path],
    skip_corrupt: bool,
    num_threads: int,
    progress: Progress | None,
) -> Generator[Pixels | Skipped, None, None]:
    """Yield the record of every image in order; judge the unreadable ones at the end."""
    failures: list[ImageFileError] = []
    # Results wait while one is slow or is being written; a few per thread keep all threads busy.
    encoded = prefetch(spec.encode, paths, num_threads=num_threads, ahead=4 * num_threads)
    with closing(encoded):
        for position, result in enumerate(encoded):
            if isinstance(result, ImageFileError):
                failures.append(result)
                yield position, str(result)
            elif skip_corrupt or not failures:  # else the rest is only read to count the failures
                yield result
            if progress is not None:
                progress(position + 1, len(paths))
    if failures and (not skip_corrupt or len(failures) == len(paths)):
        raise ImageFileError(describe_failures(failures, len(paths)))
    for failure in failures:
        _log.warning("left out: %s", failure)


def _fill_memory(
    spec: CacheSpec,
    paths: Sequence[Path],
    skip_corrupt: bool,
    num_threads: int,
    progress: Progress | None,
) -> tuple[Pixels, list[Skipped]]:
    try:
        records = np.empty((len(paths), spec.record_bytes), np.uint8)
    except MemoryError as error:
        raise ConfigError(
            f"{len(paths):,} images of {spec.height} x {spec.width} need "
            f"{len(paths) * spec.record_bytes:,} bytes of memory, which are not available; "
            "keep the cache on disk (--data.cache disk)."
        ) from error
    count = 0
    skipped: list[Skipped] = []
    for result in _encode_all(spec, paths, skip_corrupt, num_threads, progress):
        if isinstance(result, tuple):
            skipped.append(result)
        else:
            records[count] = result
            count += 1
    return records[:count], skipped


def _still_skipped(skipped: Sequence[Skipped], paths: Sequence[Path], skip_corrupt: bool) -> bool:
    """Tell whether the files that a cache lacks are still unreadable and may be lacking.

    Permissions can change without the size or time of a file, so the few are tried again.
    """
    failures: list[ImageFileError] = []
    for position, _ in skipped:
        try:
            read_image(paths[position])
        except ImageFileError as error:
            failures.append(error)
        else:
            return False
    if failures and not skip_corrupt:
        raise ImageFileError(describe_failures(failures, len(paths)))
    return True
