"""From the settings of a command to a data set and its pixels."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from reid_core.config import DataConfig
from reid_core.data.cache import CacheSpec, ImageCache
from reid_core.data.naming import check_layout, is_synthetic
from reid_core.data.readers import load_dataset
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.data.synthetic import ensure_synthetic
from reid_core.errors import ConfigError
from reid_core.files import user_cache_folder

__all__ = ["open_dataset", "open_images"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

# Where the size of the memory cannot be asked for (Windows), a small machine is assumed.
_ASSUMED_MEMORY = 8 * 2**30

# Where Linux tells the memory limit of a container, cgroup version 2 and 1.
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)

# Bytes of a cache beyond which crops are enlarged when they are drawn, with the same result.
_ENLARGED_LIMIT = 16 * 2**30


def open_dataset(config: DataConfig, progress: Progress | None = None) -> ReIDDataset:
    """Read the data set that the settings name; generate it first where they say ``synthetic``.

    Args:
        config: Root, name and size.
        progress: Called with (images done, images in all) while images are generated.

    Raises:
        ConfigError: When the name is unknown, or contradicts ``synthetic:NAME``.
        DatasetNotFoundError: When it is not there.
        DatasetError: When it cannot be used.
    """
    root: str | Path = config.root
    if is_synthetic(config.root):
        layout = config.root.partition(":")[2] or config.dataset
        check_layout(layout)
        if layout != config.dataset:
            raise ConfigError(
                f"--data {config.root} and --dataset {config.dataset} contradict each other; "
                "leave one of them out"
            )
        root = ensure_synthetic(layout, size=config.synthetic_size, progress=progress)
    return load_dataset(config.dataset, root)


def open_images(
    samples: Sequence[Sample],
    config: DataConfig,
    *,
    crop_scale: float | None = None,
    num_processes: int = 1,
    progress: Progress | None = None,
) -> ImageCache:
    """Decode the images of a split once, into memory or a mapped file, as the settings say.

    Args:
        samples: The images.
        config: Size, place of the cache and what to do with damaged files.
        crop_scale: As in ``CacheSpec``; for training images.
        num_processes: Processes of this machine that will hold the images.
        progress: Called with (images done, images in all).

    Raises:
        ImageFileError: When images are damaged (see ``config.skip_corrupt``).
        OutputError: When the cache cannot be written.
    """
    spec = CacheSpec(height=config.height, width=config.width, crop_scale=crop_scale)
    if spec.record_bytes * len(samples) > _ENLARGED_LIMIT:
        # The enlarged copies save time and cost more than half of the space; LaST's need 20 GB.
        crop_scale = None
        spec = CacheSpec(height=config.height, width=config.width)
    in_memory = config.cache == "memory"
    if config.cache == "auto":
        needed = spec.record_bytes * len(samples) * num_processes
        in_memory = num_processes == 1 and needed < _memory_size() / 4
    folder = None if in_memory else config.cache_dir or user_cache_folder() / "images"
    cache = ImageCache.build(
        [sample.path for sample in samples],
        height=config.height,
        width=config.width,
        crop_scale=crop_scale,
        folder=folder,
        skip_corrupt=config.skip_corrupt,
        progress=progress,
    )
    if cache.skipped:
        shown = "; ".join(list(cache.skipped.values())[:3])
        logger.warning("damaged images left out: %d (%s)", len(cache.skipped), shown)
    return cache


def _memory_size() -> int:
    """Return the bytes of the machine's memory, or of the container's share of it."""
    try:
        sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, OSError, ValueError):
        sizes = [_ASSUMED_MEMORY]
    for file in _CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # there is none, or it says "max"
            sizes.append(int(file.read_text(encoding="ascii")))
    return min(sizes)
