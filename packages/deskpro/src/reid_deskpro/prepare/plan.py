"""From the settings to the steps and what each does to which image. Imports no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reid_core.data.companions import (
    COMPANION_SUFFIXES,
    CompanionKind,
    companion_path,
    relative_path,
)
from reid_core.data.prefetch import available_cpus
from reid_core.data.sample import ReIDDataset
from reid_core.errors import ConfigError, DatasetError
from reid_core.processes import choose_workers
from reid_deskpro.prepare.config import PrepareConfig
from reid_deskpro.prepare.face_boxes import count_strangers, read_detections
from reid_deskpro.prepare.label_maps import LABEL_MAP_SUFFIXES
from reid_deskpro.prepare.label_sets import kept_labels
from reid_deskpro.prepare.parser import open_parser
from reid_deskpro.prepare.steps import (
    DetectedFaces,
    EnlargedFaces,
    GivenFiles,
    HeadFaces,
    Masks,
    ParsedLabels,
    Step,
    Task,
)
from reid_deskpro.prepare.trees import ParallelTree

__all__ = [
    "PARSING_FOLDER",
    "Images",
    "collect_images",
    "find_label_maps",
    "plan_enlarged",
    "plan_faces",
    "plan_masks",
    "plan_parsing",
    "plan_restored",
]

PARSING_FOLDER = "parsing"
"""Folder, below the prepared one, of label maps that a model made."""

_PICTURES = (".png", ".jpg", ".jpeg")
_FALLBACK_FACTOR = 2  # "copy lr_face (Lanczos x2)", the plainest restoration there is

PlannedStep = tuple[Step, list[Task]]


@dataclass(frozen=True)
class Images:
    """The images of a data set, each once, and where what is made of them goes.

    Attributes:
        root: The data set's own folder.
        out: The prepared folder.
        paths: The images by their path below ``root``, sorted.
    """

    root: Path
    out: Path
    paths: Mapping[PurePosixPath, Path]

    def output(self, image: PurePosixPath, kind: CompanionKind) -> Path:
        """Return where the companion of an image goes."""
        return companion_path(self.root, self.paths[image], kind, self.out)


def collect_images(dataset: ReIDDataset, out: Path) -> Images:
    """Collect the images of all splits.

    Raises:
        DatasetError: When an image lies outside the data set's folder, or two differ in their
            ending only.
    """
    found: dict[PurePosixPath, Path] = {}
    stems: dict[PurePosixPath, PurePosixPath] = {}
    for samples in dataset.splits.values():
        for sample in samples:
            image = relative_path(dataset.root, sample.path)
            found[image] = sample.path
            other = stems.setdefault(image.with_suffix(""), image)
            if other != image:
                raise DatasetError(
                    f"{dataset.root / other} and {image.name} differ in their ending only, so that "
                    "they would share their masks and faces; rename or remove one of them"
                )
    return Images(dataset.root, out, {image: found[image] for image in sorted(found)})


def plan_parsing(config: PrepareConfig, images: Images) -> tuple[ParsedLabels, list[Task]]:
    """Plan the label maps that a model is to make.

    Raises:
        ConfigError: When the model cannot be used.
    """
    assert config.parsing is not None
    if not config.parsing.is_file():
        raise ConfigError(f"--parsing {config.parsing}: there is no such file")
    digest = hashlib.sha1(config.parsing.read_bytes(), usedforsecurity=False).hexdigest()
    workers = config.workers or choose_workers(len(images.paths))
    threads = max(available_cpus() // workers, 1)
    parser = open_parser(config.parsing, digest, config.labels, config.parser, threads)
    folder = images.out / PARSING_FOLDER
    tasks = [
        Task(str(image), {"image": path}, None, folder / image.with_suffix(".png"))
        for image, path in images.paths.items()
    ]
    return ParsedLabels(parser), tasks


def find_label_maps(config: PrepareConfig, images: Images) -> dict[PurePosixPath, Path]:
    """Return the label maps by image; those of a model, where one made them.

    Raises:
        DatasetNotFoundError: When there is no such folder.
        DatasetError: When there are none at all.
    """
    assert config.parsing is not None
    folder = images.out / PARSING_FOLDER if config.has_model else config.parsing
    tree = ParallelTree(folder, LABEL_MAP_SUFFIXES, what="label map", option="--parsing")
    return tree.find_all(images.paths.keys())


def plan_masks(
    config: PrepareConfig, images: Images, label_maps: Mapping[PurePosixPath, Path]
) -> PlannedStep:
    """Plan the masks.

    Args:
        config: Settings.
        images: The images.
        label_maps: What ``find_label_maps`` returns.
    """
    step = Masks(config.labels, kept_labels(config.labels, config.keep, config.background))
    return step, _tasks_of_labels(images, label_maps, "mask")


def plan_faces(
    config: PrepareConfig, images: Images, label_maps: Mapping[PurePosixPath, Path] | None
) -> tuple[PlannedStep | None, int]:
    """Plan the face crops.

    Args:
        config: Settings.
        images: The images.
        label_maps: What ``find_label_maps`` returns; None without label maps.

    Returns:
        The step (None where neither faces nor label maps are given), and the number of a
        detector's entries that belong to no image.

    Raises:
        ConfigError: When ``config.faces`` is neither a .json file nor a folder.
        DatasetError: When it belongs to none of the images, or cannot be read.
    """
    face = config.face
    if config.faces is None:
        if label_maps is None:
            return None, 0
        heads = HeadFaces(config.labels, face.margin, face.min_size, face.min_share)
        return (heads, _tasks_of_labels(images, label_maps, "lr_face")), 0
    if config.faces.suffix.lower() == ".json":
        detections = read_detections(config.faces)
        strangers = count_strangers(detections, [*map(str, images.paths)], config.faces)
        tasks = [
            Task(
                str(image),
                {"image": path},
                detections.get(str(image)),
                images.output(image, "lr_face"),
            )
            for image, path in images.paths.items()
        ]
        return (DetectedFaces(face.margin, face.min_size), tasks), strangers
    if config.faces.is_file():
        raise ConfigError(
            f"--faces {config.faces} is neither a detector's .json file nor a folder of face crops"
        )
    return _plan_given(config.faces, images, "lr_face", "face crop", "--faces"), 0


def plan_restored(config: PrepareConfig, images: Images) -> PlannedStep | None:
    """Plan the faces that a restorer has made; None where none are given.

    Raises:
        DatasetNotFoundError: When there is no such folder.
        DatasetError: When it holds none for any image.
    """
    if config.restored is None:
        return None
    return _plan_given(config.restored, images, "hr_face", "restored face", "--restored")


def plan_enlarged(images: Images) -> PlannedStep:
    """Plan enlarged face crops in place of restored faces; the crops must be there already.

    Raises:
        DatasetError: When there are none.
    """
    tree = ParallelTree(
        images.out / "lr_face", COMPANION_SUFFIXES, what="face crop", option="--hr fallback:"
    )
    crops = tree.find_all(images.paths.keys())
    tasks = [
        Task(
            str(image),
            {"lr_face": crops[image]} if image in crops else {},
            None,
            images.output(image, "hr_face"),
        )
        for image in images.paths
    ]
    return EnlargedFaces(_FALLBACK_FACTOR), tasks


def _tasks_of_labels(
    images: Images, label_maps: Mapping[PurePosixPath, Path], kind: CompanionKind
) -> list[Task]:
    tasks = []
    for image, path in images.paths.items():
        labels = {"labels": label_maps[image]} if image in label_maps else {}
        tasks.append(Task(str(image), {"image": path, **labels}, None, images.output(image, kind)))
    return tasks


def _plan_given(
    folder: Path, images: Images, kind: CompanionKind, what: str, option: str
) -> PlannedStep:
    """Plan pictures that are there already: each is taken over under the ending that it has."""
    found = ParallelTree(folder, _PICTURES, what=what, option=option).find_all(images.paths.keys())
    tasks = []
    for image in images.paths:
        output = images.output(image, kind)
        if image in found and os.path.splitext(found[image].name)[1].lower() != ".png":
            output = output.with_suffix(".jpg")
        sources = {"file": found[image]} if image in found else {}
        tasks.append(Task(str(image), sources, None, output))
    return GivenFiles(kind, what), tasks
