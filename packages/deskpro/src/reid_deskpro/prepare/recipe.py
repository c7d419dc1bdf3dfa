"""The whole of preparation: from a data set and what other programs found in it to a folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from reid_core.data.companions import attach_companions, companions_of
from reid_core.data.readers import find_dataset, load_dataset
from reid_core.data.sample import ReIDDataset
from reid_core.data.synthetic.spec import Size
from reid_core.errors import ConfigError, DatasetError
from reid_core.files import output_error
from reid_core.folder_lock import FolderLock
from reid_deskpro.prepare.census import Census, take_census
from reid_deskpro.prepare.config import PrepareConfig
from reid_deskpro.prepare.doctor import CheckReport, check_companions
from reid_deskpro.prepare.manifest import Manifest, read_manifest
from reid_deskpro.prepare.official import OFFICIAL_FOLDER, check_official, lay_out
from reid_deskpro.prepare.opening import Progress, complete, require_memory, require_out
from reid_deskpro.prepare.plan import (
    Images,
    PlannedStep,
    collect_images,
    find_label_maps,
    plan_enlarged,
    plan_faces,
    plan_masks,
    plan_parsing,
    plan_restored,
)
from reid_deskpro.prepare.records import RECORDS_FOLDER, read_boxes
from reid_deskpro.prepare.runner import run_step
from reid_deskpro.prepare.sheet import SHEET_NAME, draw_sheet

__all__ = ["Preparation", "Progress", "check_prepared", "ensure_prepared", "prepare"]

logger = logging.getLogger(__name__)

_ACTIONS = {
    "parsing": "parsing people",
    "mask": "making masks",
    "lr_face": "cutting out faces",
    "hr_face": "restored faces",
}


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What has been made.

    Attributes:
        folder: The prepared folder.
        dataset: The data set with its masks and faces attached.
        census: What there is and what is missing.
        missing: Reasons why there is nothing for an image, with their numbers, by step.
        done: Images that this run worked on, by step; the others were there.
        official: Folder of the official layout; None where it was not asked for.
    """

    folder: Path
    dataset: ReIDDataset
    census: Census
    missing: Mapping[str, Mapping[str, int]]
    done: Mapping[str, int]
    official: Path | None


def ensure_prepared(layout: str, *, size: Size = "demo", progress: Progress | None = None) -> Path:
    """Return the prepared folder of a synthetic data set from the cache, made there on first use.

    Args:
        layout: As for ``reid_core.data.synthetic.ensure_synthetic``.
        size: As for ``ensure_synthetic``.
        progress: See ``Progress``; not called for what is there already.

    Returns:
        The prepared folder; the data set itself is that of ``ensure_synthetic``.

    Raises:
        ReIDError: As ``prepare``.
    """
    config = PrepareConfig(data=f"synthetic:{layout}", synthetic_size=size)
    # Waits: several processes of a training, or several commands, may begin at once.
    return prepare(config, progress=progress, wait=True).folder


def prepare(
    config: PrepareConfig, *, progress: Progress | None = None, wait: bool = False
) -> Preparation:
    """Make masks, face crops and restored faces of a data set.

    What an earlier run did in the same folder and what is still as it was is left alone; steps for
    which nothing is given keep what they have.

    Args:
        config: What is made, and of what. Of synthetic data the exact annotations are used
            where no source is given.
        progress: See ``Progress``.
        wait: Wait while another process works on the folder, instead of refusing.

    Returns:
        What there is now.

    Raises:
        ConfigError: When settings do not go together, or another process works on the folder.
        DatasetNotFoundError: When data set or sources are not there.
        DatasetError: When they cannot be used, or the folder belongs to another data set.
        ImageFileError: When files are damaged and ``config.skip_corrupt`` is off.
        MemoryLimitError: When more memory may be needed than there is.
        OutputError: When a file cannot be written.
    """
    config = complete(config, progress)
    dataset = load_dataset(config.dataset, config.data)
    out = require_out(config, dataset.root)
    if config.official_layout != "none":
        check_official(dataset.name, with_val=config.official_val)
    images = collect_images(dataset, out)
    require_memory(config, len(images.paths))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(out, error) from error
    with FolderLock(out, "prepared folder", wait=wait):
        run = _Run(config, images, Manifest.begin(dataset, out), progress)
        run.do_all()
        attached = attach_companions(dataset, out)
        census = take_census(attached)
        run.draw_sheet(attached)
        official = run.lay_out(attached)
        manifest = run.manifest.finish(census, config.sheet_images)
        manifest.write(out)
    return Preparation(
        folder=out,
        dataset=attached,
        census=census,
        missing={name: step["missing"] for name, step in manifest.steps.items()},
        done=run.done,
        official=official,
    )


def check_prepared(config: PrepareConfig, *, progress: Progress | None = None) -> CheckReport:
    """Check a prepared folder, or an archive of the official layout.

    Args:
        config: Settings: ``check``, and ``data`` and ``dataset`` where the folder does not say.
        progress: See ``Progress``.

    Raises:
        DatasetNotFoundError: When the folder or its data set is not there.
        DatasetError: When it is no prepared folder.
        ConfigError: When there is no ``config.check``.
    """
    if config.check is None:
        raise ConfigError("check names the prepared folder that is to be checked")
    manifest = read_manifest(config.check)
    if manifest is None and not config.data:
        # An archive of the official layout brings its images along.
        dataset = load_dataset(config.dataset or find_dataset(config.check), config.check)
        if not any(companions_of(sample) for split in dataset.splits.values() for sample in split):
            raise DatasetError(
                f"{config.check} holds images but neither masks nor faces; it is no prepared data "
                "set"
            )
    else:
        name = config.dataset or (manifest.dataset if manifest else find_dataset(config.data))
        root = config.data or (manifest.root if manifest else "")
        dataset = attach_companions(load_dataset(name, root), config.check)
    report = check_companions(
        dataset,
        workers=config.workers,
        progress=None if progress is None else partial(progress, "decoding"),
    )
    if manifest is not None and not manifest.complete:
        unfinished = "the last run was stopped before its end; run deskpro-prepare again"
        report = replace(report, problems=(unfinished, *report.problems))
    return report


class _Run:
    """The steps of one run, one after the other.

    Attributes:
        manifest: What is known of the folder by now.
        done: Images that were worked on, by step.
    """

    def __init__(
        self, config: PrepareConfig, images: Images, manifest: Manifest, progress: Progress | None
    ) -> None:
        self._config = config
        self._images = images
        self._progress = progress
        self.manifest = manifest
        self._sheet = manifest.sheet_images
        self.done: dict[str, int] = {}

    def do_all(self) -> None:
        """Do every step for which something is given."""
        config, images = self._config, self._images
        label_maps: Mapping[PurePosixPath, Path] | None = None
        # First of all, because a wrong folder should show before hours of parsing.
        restored = plan_restored(config, images)
        if config.has_model:
            step, tasks = plan_parsing(config, images)
            # One process keeps a GPU busy; more would each want a copy of the model on it.
            alone = not config.workers and step.parser.runs_on_device
            self._do((step, tasks), workers=1 if alone else config.workers)
        if config.parsing is not None:
            label_maps = find_label_maps(config, images)
            self._do(plan_masks(config, images, label_maps))
        faces, strangers = plan_faces(config, images, label_maps)
        if strangers:
            logger.warning("%s: entries that belong to no image: %d", config.faces, strangers)
        if faces is not None:
            self._do(faces)
        if config.hr == "fallback":
            logger.warning(
                "restored faces are enlarged crops: the teacher sees little more than its student, "
                "and most of what it could teach is lost"
            )
            restored = plan_enlarged(images)
        if restored is not None:
            self._do(restored)
        elif self.done.get("lr_face") and "hr_face" in self.manifest.steps:
            logger.warning(
                "face crops were made or looked at again: %d; where they have changed, restored "
                "faces are of other crops, so restore them again and give --restored",
                self.done["lr_face"],
            )
        if not self.done:
            raise ConfigError(
                "nothing to make: give --parsing (masks and faces), --faces, --restored or --hr "
                "fallback"
            )

    def draw_sheet(self, dataset: ReIDDataset) -> None:
        """Draw the contact sheet, unless it is there and nothing has changed."""
        number, out = self._config.sheet_images, self._images.out
        path = out / SHEET_NAME
        if number and (any(self.done.values()) or self._sheet != number or not path.exists()):
            boxes = read_boxes(_journal(out, "lr_face"))
            draw_sheet(dataset, path, per_split=number, boxes=boxes)

    def lay_out(self, dataset: ReIDDataset) -> Path | None:
        """Make the official layout where it is asked for; return its folder."""
        config, folder = self._config, self._images.out / OFFICIAL_FOLDER
        if config.official_layout != "none":
            how = config.official_layout
            return lay_out(dataset, folder, how=how, with_val=config.official_val)
        if folder.is_dir() and any(self.done.values()):
            logger.warning(
                "%s is of an earlier run; give --official-layout again to bring it up to date",
                folder,
            )
        return None

    def _do(self, planned: PlannedStep, workers: int | None = None) -> None:
        step, tasks = planned
        show = None
        if self._progress is not None:
            show = partial(self._progress, _ACTIONS[step.name])
        result = run_step(
            step,
            tasks,
            _journal(self._images.out, step.name),
            workers=self._config.workers if workers is None else workers,
            skip_corrupt=self._config.skip_corrupt,
            begin=lambda: self.manifest.write(self._images.out),  # not complete before the end
            progress=show,
        )
        self.done[step.name] = result.num_done
        self.manifest = self.manifest.with_step(step.name, step.parameters, result)


def _journal(out: Path, step: str) -> Path:
    return out / RECORDS_FOLDER / f"{step}.jsonl"
