"""The steps of preparation: what each makes of one image.

A step is a small frozen object that other processes get a copy of. Its fields are its parameters;
``REVISION`` is raised whenever the same parameters would give other files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from PIL import Image

from reid_core.data import archives
from reid_core.data.images import read_image
from reid_deskpro.prepare.face_boxes import Face, choose_face, crop_square, find_face, square
from reid_deskpro.prepare.label_maps import fit_labels, not_clothing_mask, read_label_map
from reid_deskpro.prepare.label_sets import LabelSetName
from reid_deskpro.prepare.parser import OnnxParser
from reid_deskpro.prepare.pictures import Pixels, encode_png, image_size

__all__ = [
    "DetectedFaces",
    "EnlargedFaces",
    "GivenFiles",
    "HeadFaces",
    "Masks",
    "Outcome",
    "ParsedLabels",
    "Step",
    "Task",
]


class Task(NamedTuple):
    """One image of one step.

    Attributes:
        image: Its path below the data set's folder, with forward slashes.
        sources: Files that the outcome depends on and that are there, by what they are for.
        given: What else it depends on, as JSON has it.
        output: Where the result goes.
    """

    image: str
    sources: Mapping[str, Path]
    given: Any
    output: Path


class Outcome(NamedTuple):
    """What a step made of an image.

    Attributes:
        content: Bytes of the file to write; None where there is nothing to write.
        reason: Why there is none.
        box: Square that was cut out (left, top, side), pixels.
    """

    content: bytes | None
    reason: str = ""
    box: tuple[int, int, int] | None = None


class Step(Protocol):
    """Something that is done to every image."""

    @property
    def name(self) -> str:
        """Name of the step and of its folder."""

    @property
    def parameters(self) -> dict[str, Any]:
        """What the outcome depends on beside the task, as JSON has it; with the tool's name."""

    def make(self, task: Task) -> Outcome:
        """Do it.

        Raises:
            ImageFileError: When a source is damaged; the message names it.
        """


@dataclass(frozen=True)
class _Parameters:
    """Gives a step its parameters: its fields, its class and its revision."""

    REVISION: ClassVar[int] = 1

    @property
    def parameters(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {"tool": type(self).__name__, "revision": self.REVISION, **values}


@dataclass(frozen=True)
class ParsedLabels(_Parameters):
    """Makes label maps with a human-parsing model.

    Attributes:
        parser: The model.
    """

    parser: OnnxParser
    name: ClassVar[str] = "parsing"

    @property
    def parameters(self) -> dict[str, Any]:
        """The model and its settings, but not where and with what it runs."""
        settings = asdict(self.parser.settings)
        del settings["device"]
        model = {"model": Path(self.parser.path).name, "sha1": self.parser.sha1}
        known: dict[str, Any] = json.loads(json.dumps({**model, **settings}))
        return {"tool": "ParsedLabels", "revision": self.REVISION, **known}

    def make(self, task: Task) -> Outcome:
        """Run the model on the image; the map has the resolution of the model's output."""
        labels = self.parser.parse(read_image(task.sources["image"]))
        return Outcome(encode_png(labels))


@dataclass(frozen=True)
class Masks(_Parameters):
    """Makes masks of what is not clothing.

    Attributes:
        labels: Label set of the label maps.
        kept: Labels that are not clothing.
    """

    labels: LabelSetName
    kept: tuple[int, ...]
    name: ClassVar[str] = "mask"

    def make(self, task: Task) -> Outcome:
        """Turn the label map into a mask of the image's size."""
        if "labels" not in task.sources:
            return Outcome(None, "no label map")
        width, height = image_size(task.sources["image"])
        labels = fit_labels(read_label_map(task.sources["labels"], self.labels), height, width)
        return Outcome(encode_png(not_clothing_mask(labels, self.kept)))


@dataclass(frozen=True)
class HeadFaces(_Parameters):
    """Cuts faces out of the heads in label maps.

    Attributes:
        labels: Label set of the label maps.
        margin: Side of the crop as a multiple of the longer side of the face.
        min_size: Smallest face, pixels.
        min_share: Smallest share of the head that is the face.
    """

    labels: LabelSetName
    margin: float
    min_size: int
    min_share: float
    name: ClassVar[str] = "lr_face"

    def make(self, task: Task) -> Outcome:
        """Find the face in the label map and cut it out of the image."""
        if "labels" not in task.sources:
            return Outcome(None, "no label map")
        pixels = np.asarray(read_image(task.sources["image"]))
        height, width = pixels.shape[:2]
        labels = fit_labels(read_label_map(task.sources["labels"], self.labels), height, width)
        face = find_face(labels, self.labels, self.min_size, self.min_share)
        return _crop(pixels, face, self.margin)


@dataclass(frozen=True)
class DetectedFaces(_Parameters):
    """Cuts out the faces that a detector found.

    Attributes:
        margin: Side of the crop as a multiple of the longer side of the box.
        min_size: Smallest face, pixels.
    """

    margin: float
    min_size: int
    name: ClassVar[str] = "lr_face"

    def make(self, task: Task) -> Outcome:
        """Choose among the detected faces and cut one out of the image."""
        if task.given is None:
            return Outcome(None, "not in the detector's file")
        pixels = np.asarray(read_image(task.sources["image"]))
        height, width = pixels.shape[:2]
        face = choose_face(task.given, height, width, self.min_size)
        return _crop(pixels, face, self.margin)


@dataclass(frozen=True)
class GivenFiles(_Parameters):
    """Takes pictures that another program made, byte for byte.

    Attributes:
        name: ``lr_face`` or ``hr_face``.
        what: What is missing where there is no file.
    """

    name: str
    what: str

    def make(self, task: Task) -> Outcome:
        """Take the file over; it is decoded once, so that damage is found now."""
        path = task.sources.get("file")
        if path is None:
            return Outcome(None, f"no {self.what}")
        read_image(path)
        return Outcome(archives.read_file(path))


@dataclass(frozen=True)
class EnlargedFaces(_Parameters):
    """Takes enlarged face crops for restored faces.

    Attributes:
        factor: How many times wider and higher they become (Lanczos).
    """

    factor: int
    name: ClassVar[str] = "hr_face"

    def make(self, task: Task) -> Outcome:
        """Enlarge the face crop of the image."""
        path = task.sources.get("lr_face")
        if path is None:
            return Outcome(None, "no face crop")
        crop = read_image(path)
        size = (self.factor * crop.width, self.factor * crop.height)
        return Outcome(encode_png(np.asarray(crop.resize(size, Image.Resampling.LANCZOS))))


def _crop(pixels: Pixels, face: Face, margin: float) -> Outcome:
    if face.box is None:
        return Outcome(None, face.reason)
    box = square(face.box, margin)
    return Outcome(encode_png(crop_square(pixels, *box)), box=box)
