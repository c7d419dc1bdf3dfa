"""From the settings of a command to a data set and its pixels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from reid_core.config import DataConfig
from reid_core.data.cache import CacheSpec, ImageCache
from reid_core.data.naming import check_layout, is_synthetic
from reid_core.data.readers import load_dataset
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.data.synthetic import ensure_synthetic
from reid_core.errors import ConfigError
from reid_core.files import user_cache_folder
from reid_core.memory import MemoryPlan, available_memory

__all__ = ["open_dataset", "open_images", "place_images"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

# Images are kept in memory by themselves while they take less than one part in so many of it.
_MEMORY_SHARE = 4

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


def place_images(
    config: DataConfig,
    plan: MemoryPlan,
    counts: Mapping[str, int],
    *,
    crop_scale: float | None = None,
    num_processes: int = 1,
    option: str = "--data.cache",
) -> DataConfig:
    """Decide where decoded images are kept, and add what that takes to a plan.

    Args:
        config: Settings; ``cache="auto"`` means memory for one process, while the images take less
            than a quarter of what it may have and there is room for them, else a mapped file.
        plan: What else there will be.
        counts: Split name to number of images.
        crop_scale: As in ``open_images``.
        num_processes: As in ``open_images``.
        option: The command's option for the place, for the message of a refusal.

    Returns:
        The settings with ``cache`` decided: ``memory`` or ``disk``.
    """
    needed = {
        name: count * _spec(count, config, crop_scale).record_bytes
        for name, count in counts.items()
    }
    place = config.cache
    if place == "auto":
        total = sum(needed.values())
        fits = total < plan.allowed / _MEMORY_SHARE and total <= plan.room
        place = "memory" if fits and num_processes == 1 else "disk"
    if place == "memory":
        for name, num_bytes in needed.items():
            what = f"decoded images of {name} ({counts[name]:,}, {config.height} x {config.width})"
            plan.add(what, num_bytes, remedy=f"images in a file ({option} disk)")
    return replace(config, cache=place)


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
    spec = _spec(len(samples), config, crop_scale)
    in_memory = config.cache == "memory"
    if config.cache == "auto":
        needed = spec.record_bytes * len(samples)
        in_memory = num_processes == 1 and needed < available_memory() / _MEMORY_SHARE
    folder = None if in_memory else config.cache_dir or user_cache_folder() / "images"
    cache = ImageCache.build(
        [sample.path for sample in samples],
        height=config.height,
        width=config.width,
        crop_scale=spec.crop_scale,
        folder=folder,
        skip_corrupt=config.skip_corrupt,
        progress=progress,
    )
    if cache.skipped:
        shown = "; ".join(list(cache.skipped.values())[:3])
        logger.warning("damaged images left out: %d (%s)", len(cache.skipped), shown)
    return cache


def _spec(num_images: int, config: DataConfig, crop_scale: float | None) -> CacheSpec:
    """Return what is kept of each image; enlarged copies where they are asked for and affordable.

    They save time and cost more than half of the space; LaST's would need 20 GB.
    """
    spec = CacheSpec(height=config.height, width=config.width, crop_scale=crop_scale)
    if spec.record_bytes * num_images <= _ENLARGED_LIMIT:
        return spec
    return replace(spec, crop_scale=None)
