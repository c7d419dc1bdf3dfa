"""Settings of ``deskpro-prepare``. Imports neither torch nor NumPy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from reid_core.config import require
from reid_core.memory import parse_size
from reid_deskpro.prepare.label_sets import LabelSetName, kept_labels

__all__ = ["FaceConfig", "ParserConfig", "PrepareConfig"]


@dataclass(frozen=True, kw_only=True)
class ParserConfig:
    """How a human-parsing model (ONNX) wants its images; what its makers' test script does."""

    height: int = 0
    """Height of the model's input in pixels; 0: the one that is written in the file."""
    width: int = 0
    """Width of the model's input in pixels; 0: the one that is written in the file."""
    channels: Literal["rgb", "bgr"] = "rgb"
    """Order of the colours."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from each channel of pixels in [0, 1], in the order of `channels`."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """What is left is divided by this."""
    output: str = ""
    """Name of the output with the logits (1, labels, h, w) or label numbers; default: the
    first."""
    device: Literal["auto", "cpu"] = "auto"
    """`auto` takes what the installed onnxruntime offers, such as a GPU."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("height", "width"):
            value = getattr(self, name)
            require(value >= 0, f"parser.{name}={value} must not be negative")
        require(min(self.std) > 0, f"parser.std={self.std} must be above 0")


@dataclass(frozen=True, kw_only=True)
class FaceConfig:
    """Which part of an image is cut out as the face."""

    margin: float = 1.3
    """Side of the square crop, as a multiple of the longer side of the face's box."""
    min_size: int = 4
    """Faces whose box is shorter than this, in pixels of the image, are left out."""
    min_share: float = 0.25
    """Smallest share of the visible head that is face; where it is less, the head is turned away
    (only where faces are found by their labels)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(1 <= self.margin <= 4, f"face.margin={self.margin} must lie in [1, 4]")
        require(self.min_size >= 1, f"face.min_size={self.min_size} must be at least 1 pixel")
        require(0 <= self.min_share < 1, f"face.min_share={self.min_share} must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What ``deskpro-prepare`` makes, and of what."""

    data: str = ""
    """Folder of the data set or its parent; `synthetic` (or `synthetic:celeb`) makes a miniature
    and, where no source is named, takes its exact annotations."""
    dataset: str = ""
    """Name of the data set (see `reid-data list`); found from the folder if left out."""
    out: Path | None = None
    """Prepared folder: new, or one that is to be continued or changed."""
    parsing: Path | None = None
    """Label maps, for masks and faces: a folder parallel to the data set's (index PNG or NPY, any
    resolution), or a human-parsing model in an .onnx file, which is run here."""
    labels: LabelSetName = "lip"
    """Which labels the maps have."""
    keep: tuple[int, ...] = ()
    """Labels that are not clothing and stay visible in the masks; default: hair, face, arms and
    legs."""
    background: Literal[0, 1] = 0
    """1 keeps the background visible in the masks, too."""
    faces: Path | None = None
    """Where faces are: a detector's .json file (image -> list of [x1, y1, x2, y2, score]), or a
    folder of ready crops parallel to the data set's; default: the heads in the label maps."""
    restored: Path | None = None
    """Restored faces: folder parallel to the data set's, as any face restorer makes it of
    `OUT/lr_face`."""
    hr: Literal["none", "fallback"] = "none"
    """`fallback` takes the face crops themselves, enlarged, for restored ones: for trials, as the
    teacher then sees no more than its student."""
    face: FaceConfig = field(default_factory=FaceConfig)
    parser: ParserConfig = field(default_factory=ParserConfig)
    official_layout: Literal["none", "link", "copy"] = "none"
    """Also lay everything out as the official program expects it, in `OUT/official`, by hard links
    or copies (Celeb-reID, Celeb-reID-light, PRCC)."""
    official_val: bool = False
    """Put PRCC's validation images into the official training folder, too."""
    sheet_images: int = 24
    """Images of each split on `OUT/contact-sheet.png`; 0: no sheet."""
    synthetic_size: Literal["tiny", "demo", "full"] = "demo"
    """How many people and images a synthetic data set has."""
    workers: int = 0
    """Processes; 0: as many as pay."""
    skip_corrupt: bool = False
    """Leave damaged files out and count them, instead of stopping."""
    memory_limit: str | None = None
    """Refuse to start where one process may need more memory, e.g. 500MB."""
    check: Path | None = None
    """Check this prepared folder instead: counts, missing and damaged files, empty or coloured
    masks; --data says where the images are if they were moved."""

    def __post_init__(self) -> None:
        """Check ranges and what goes together."""
        kept_labels(self.labels, self.keep, self.background)
        require(self.workers >= 0, f"workers={self.workers} must not be negative")
        require(self.sheet_images >= 0, f"sheet_images={self.sheet_images} must not be negative")
        require(
            self.restored is None or self.hr == "none",
            "restored faces come from --restored DIR or from --hr fallback; give one of them",
        )
        require(
            not self.official_val or self.official_layout != "none",
            "--official-val belongs to --official-layout link or copy",
        )
        made = (self.out, self.parsing, self.faces, self.restored)
        require(
            self.check is None or made == (None, None, None, None),
            f"--check {self.check} makes nothing; leave out --out, --parsing, --faces, --restored",
        )
        if self.memory_limit is not None:
            parse_size(self.memory_limit)

    @property
    def has_model(self) -> bool:
        """Whether the label maps are to be made by a model."""
        return self.parsing is not None and self.parsing.suffix.lower() == ".onnx"
