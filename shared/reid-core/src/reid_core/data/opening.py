"""From the settings of a command to a data set and its pixels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from reid_core.config import DataConfig
from reid_core.data.cache import CacheSpec, ImageCache
from reid_core.data.companions import attach_companions
from reid_core.data.naming import check_layout, is_synthetic
from reid_core.data.readers import READERS, load_dataset, read_dataset
from reid_core.data.readers.sysu_arrays import check_array_settings
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.data.synthetic import ensure_synthetic
from reid_core.errors import ConfigError, DatasetError
from reid_core.files import user_cache_folder
from reid_core.memory import MemoryPlan, available_memory

__all__ = [
    "open_dataset",
    "open_images",
    "place_images",
    "require_trial",
    "select_trial",
    "trials_of",
]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

# Images are kept in memory by themselves while they take less than one part in so many of it.
_MEMORY_SHARE = 4

# Bytes of a cache beyond which crops are enlarged when they are drawn, with the same result.
_ENLARGED_LIMIT = 16 * 2**30


def open_dataset(config: DataConfig, progress: Progress | None = None) -> ReIDDataset:
    """Read the data set that the settings name; generate it first where they say ``synthetic``.

    Args:
        config: Root, name, prepared folder, trial and size.
        progress: Called with (images done, images in all) while images are generated.

    Returns:
        The data set, with the companions of ``config.prepared`` where that is set; of one with
        several trials, the splits of ``config.trial`` (``select_trial``).

    Raises:
        ConfigError: When the name is unknown, or contradicts ``synthetic:NAME``, or there is no
            such trial.
        DatasetNotFoundError: When it is not there, or the prepared folder is not.
        DatasetError: When it cannot be used, or the prepared folder is that of another one.
    """
    require_trial(config.dataset, config.trial)  # before images are generated
    root = _find_root(config, progress)
    dataset = load_dataset(config.dataset, root, prefer_arrays=config.prefer_arrays)
    dataset = select_trial(dataset, config.trial)
    if config.prepared is None:
        return dataset
    return attach_companions(dataset, config.prepared.expanduser())


def trials_of(config: DataConfig, progress: Progress | None = None) -> tuple[int, ...]:
    """Return the trials that a copy of a data set holds, from 1; none where it has no trials.

    Arguments and errors are those of ``open_dataset``; nothing is logged.
    """
    if _num_trials(config.dataset) == 1:
        return ()
    return _trials_in(read_dataset(config.dataset, _find_root(config, progress)).dataset)


def select_trial(dataset: ReIDDataset, trial: int) -> ReIDDataset:
    """Keep one trial of a data set that has several divisions into training and test people.

    Args:
        dataset: A data set as ``load_dataset`` returns it.
        trial: Number of the trial, from 1.

    Returns:
        The data set with the splits ``train`` (that of the trial) and ``test_<trial>``, as the
        protocols call it; a data set without trials as it is.

    Raises:
        ConfigError: When the data set has no such trial.
        DatasetError: When this copy has no lists of it.
    """
    require_trial(dataset.name, trial)
    if _num_trials(dataset.name) == 1:
        return dataset
    present = _trials_in(dataset)
    if trial not in present:
        raise DatasetError(
            f"{dataset.name} in {dataset.root} has no lists of trial {trial}, only of "
            f"{', '.join(map(str, present))}; copy them, or choose another with --data.trial "
            "(--trial where nothing is trained)"
        )
    test = f"test_{trial}"
    splits = {"train": dataset.splits[f"train_{trial}"], test: dataset.splits[test]}
    return replace(dataset, splits=splits)


def require_trial(name: str, trial: int) -> None:
    """Check that a data set has a trial, whichever of them a copy holds.

    Args:
        name: Name of the data set.
        trial: Number of the trial, from 1.

    Raises:
        ConfigError: When it has not.
    """
    num_trials = _num_trials(name)
    if not 1 <= trial <= num_trials:
        has = "one division into training and test people: trial 1"
        accepted = f"the trials 1 to {num_trials}" if num_trials > 1 else has
        raise ConfigError(f"data.trial={trial}: {name} has {accepted}")


def _num_trials(name: str) -> int:
    return READERS[name].info.num_trials if name in READERS else 1


def _trials_in(dataset: ReIDDataset) -> tuple[int, ...]:
    trials = range(1, _num_trials(dataset.name) + 1)
    return tuple(trial for trial in trials if f"train_{trial}" in dataset.splits)


def _find_root(config: DataConfig, progress: Progress | None) -> str | Path:
    """Return the folder to read, after generating it where that is asked for."""
    if not is_synthetic(config.root):
        return config.root
    layout = config.root.partition(":")[2] or config.dataset
    check_layout(layout)
    if layout != config.dataset:
        raise ConfigError(
            f"--data {config.root} and --dataset {config.dataset} contradict each other; "
            "leave one of them out"
        )
    return ensure_synthetic(layout, size=config.synthetic_size, progress=progress)


def place_images(
    config: DataConfig,
    plan: MemoryPlan,
    counts: Mapping[str, int],
    *,
    companions: Mapping[str, tuple[int, int]] | None = None,
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
        companions: Height and width of what is kept beside each image, by kind.
        crop_scale: As in ``open_images``.
        num_processes: As in ``open_images``.
        option: The command's option for the place, for the message of a refusal.

    Returns:
        The settings with ``cache`` decided: ``memory`` or ``disk``.
    """
    needed: dict[str, int] = {}
    for name, count in counts.items():
        size = f"{count:,}, {config.height} x {config.width}"
        needed[f"{name} ({size})"] = count * _spec(count, config, crop_scale).record_bytes
        for kind, (height, width) in (companions or {}).items():
            own = replace(config, height=height, width=width)
            what = f"{name}, {kind} (at most {count:,}, {height} x {width})"
            needed[what] = count * _spec(count, own, crop_scale).record_bytes
    place = config.cache
    if place == "auto":
        total = sum(needed.values())
        fits = total < plan.allowed / _MEMORY_SHARE and total <= plan.room
        place = "memory" if fits and num_processes == 1 else "disk"
    if place == "memory":
        for what, num_bytes in needed.items():
            remedy = f"images in a file ({option} disk)"
            plan.add(f"decoded images of {what}", num_bytes, remedy=remedy)
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
        ConfigError: When pre-processed images would have to be resized again.
        ImageFileError: When images are damaged (see ``config.skip_corrupt``).
        OutputError: When the cache cannot be written.
    """
    check_array_settings(
        samples, height=config.height, width=config.width, interpolation=config.interpolation
    )
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
        interpolation=config.interpolation,
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
    spec = CacheSpec(
        height=config.height,
        width=config.width,
        interpolation=config.interpolation,
        crop_scale=crop_scale,
    )
    if spec.record_bytes * num_images <= _ENLARGED_LIMIT:
        return spec
    return replace(spec, crop_scale=None)
