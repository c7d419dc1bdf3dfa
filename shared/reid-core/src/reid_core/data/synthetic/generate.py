"""Making of whole data sets: into a folder of the user's, or into the cache."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from reid_core.data.layout import SYNTHETIC_MARKER
from reid_core.data.synthetic.files import (
    Job,
    digest,
    marker_text,
    read_marker,
    recipe,
    write_labels,
    write_shot,
)
from reid_core.data.synthetic.publish import has_content, move_into_place, partial_folder
from reid_core.data.synthetic.spec import Size, SyntheticSpec, resolve_size
from reid_core.data.synthetic.workers import write_shots
from reid_core.errors import ConfigError, OutputError
from reid_core.files import output_error, user_cache_folder
from reid_core.processes import choose_workers

__all__ = ["ensure_synthetic", "synthesize"]

_logger = logging.getLogger(__name__)


def synthesize(
    layout: str,
    root: Path,
    *,
    seed: int = 1,
    size: Size | SyntheticSpec = "demo",
    write_masks: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a synthetic data set in the on-disk layout of a published one.

    The folder appears at once when it is complete: an interrupted call leaves nothing that a
    reader could take for a data set. It holds the images under their authors' naming, a
    ``labels.csv`` with everything known about each image, and ``synthetic.json``, which marks the
    data set as generated. A complete one made from the same recipe is reused.

    Args:
        layout: ``ltcc``, ``prcc``, ``last``, ``celeb``, ``celeb_light``, ``sysu``, ``regdb``,
            ``llcm``, ``market1501``, ``dukemtmc`` or ``msmt17``.
        root: Folder that is to hold the data set's own folder; made if missing.
        seed: Seed of everything, >= 0. The same seed gives the same bytes, whatever the number of
            workers, with the same versions of NumPy and Pillow.
        size: ``tiny``, ``demo``, ``full`` or the numbers themselves.
        write_masks: Also write ``masks/`` (label maps, 8-bit PNG of `Part` values) and ``faces/``
            (crops of the visible faces) beside the images, each a mirror of the image tree.
        overwrite: Whether a different synthetic data set may be replaced. Anything that does not
            carry the marker is never touched.
        workers: Processes; None takes the available cores where it pays.
        progress: Called with (images done, images in all).

    Returns:
        The data set's own folder, e.g. ``root/LTCC_ReID``.

    Raises:
        ConfigError: Unknown layout or size, or a negative seed.
        OutputError: The folder holds something else, or could not be written.
    """
    if seed < 0 or (workers is not None and workers < 1):
        raise ConfigError(f"seed={seed}, workers={workers}; seed must be >= 0 and workers >= 1")
    job = Job(layout, seed, resolve_size(size), write_masks)
    folder = Path(root) / job.layout.folder
    name = size if isinstance(size, str) else "custom"
    try:
        if _is_reusable(folder, job, overwrite=overwrite):
            return folder
        with partial_folder(folder) as partial:
            _fill(partial, job, name, workers, progress)
            move_into_place(partial, folder, lambda: _is_reusable(folder, job, overwrite=overwrite))
    except OSError as error:
        raise output_error(folder, error) from error
    return folder


def ensure_synthetic(
    layout: str,
    *,
    size: Size | SyntheticSpec = "demo",
    seed: int = 1,
    cache_dir: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Return a synthetic data set from the cache, made there on first use.

    Args:
        layout: As for `synthesize`.
        size: As for `synthesize`.
        seed: As for `synthesize`.
        cache_dir: Cache; None is `reid_core.files.user_cache_folder`.
        progress: As for `synthesize`; not called where the data set is there already.

    Returns:
        The data set's own folder. Its parent holds nothing else.

    Raises:
        ConfigError: Unknown layout or size, or a negative seed.
        OutputError: The cache cannot be written.
    """
    job = Job(layout, seed, resolve_size(size), write_masks=False)
    name = size if isinstance(size, str) else "custom"
    cache = user_cache_folder() if cache_dir is None else Path(cache_dir)
    root = cache / "synthetic" / f"{layout}-{name}-seed{seed}-{digest(job)}"
    try:
        return synthesize(layout, root, seed=seed, size=size, overwrite=True, progress=progress)
    except OutputError as error:
        if cache_dir is not None:
            raise
        raise OutputError(
            f"{error} The environment variable REID_CACHE names another one."
        ) from error


def _fill(
    folder: Path,
    job: Job,
    size_name: str,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write images, labels and, last, the marker."""
    shots = job.shots()
    lists = job.lists(shots)
    paths = [*(shot.path for shot in shots), *lists]
    for parent in sorted({(folder / path).parent for path in paths}):
        parent.mkdir(parents=True, exist_ok=True)
    for path, content in lists.items():
        (folder / path).write_bytes(content)
    number = choose_workers(len(shots)) if workers is None else workers
    labels = []
    for label in write_shots(job, shots, folder, number, write_shot):
        labels.append(label)
        if progress is not None:
            progress(len(labels), len(shots))
    write_labels(folder / "labels.csv", labels)
    marker = marker_text(job, size_name, labels)
    (folder / SYNTHETIC_MARKER).write_text(marker, encoding="utf-8", newline="\n")


def _is_reusable(folder: Path, job: Job, *, overwrite: bool) -> bool:
    """Tell whether the folder is the wanted data set; False means that it may be written.

    Raises:
        OutputError: The folder is taken.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    found = read_marker(folder)
    if found is None:
        raise OutputError(
            f"{folder} is there already and is no synthetic data set (it holds no "
            f"{SYNTHETIC_MARKER}), so it is left alone; choose another folder or move it away"
        )
    wanted = recipe(job)
    different = sorted(key for key in wanted if found.get(key) != wanted[key])
    if different and not overwrite:
        raise OutputError(
            f"{folder} holds another synthetic data set (it differs in {', '.join(different)}); "
            "choose another folder, remove it, or allow it to be overwritten"
        )
    if different:
        return False
    shots = job.shots()
    paths = [*(shot.path for shot in shots), *job.lists(shots)]
    lost = [path for path in paths if not has_content(folder / path)]
    if lost:
        _logger.warning(
            "%s has lost %d of its files, such as %s; it is made again", folder, len(lost), lost[0]
        )
    return not lost
