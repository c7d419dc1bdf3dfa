"""The files of a synthetic data set: images, masks, face crops, labels and the marker."""

from __future__ import annotations

import csv
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reid_core import __version__
from reid_core.data.layout import SYNTHETIC_MARKER
from reid_core.data.synthetic.layouts import Layout, get_layout
from reid_core.data.synthetic.render import FaceBox
from reid_core.data.synthetic.shots import Shot
from reid_core.data.synthetic.spec import SyntheticSpec
from reid_core.data.synthetic.world import World
from reid_core.errors import ConfigError

__all__ = [
    "Job",
    "Label",
    "digest",
    "job_of",
    "marker_text",
    "read_marker",
    "recipe",
    "save_pixels",
    "write_labels",
    "write_shot",
]

# Raised whenever the same seed would give other images.
_REVISION = 2
_NOTICE = "Procedurally generated pedestrians. Results on them say nothing about real people."


@dataclass(frozen=True)
class Job:
    """What is to be made.

    Attributes:
        name: Name of the layout.
        seed: Seed of everything.
        spec: Numbers.
        write_masks: Whether masks and face crops are written too.
    """

    name: str
    seed: int
    spec: SyntheticSpec
    write_masks: bool

    @property
    def layout(self) -> Layout:
        """The on-disk form."""
        return get_layout(self.name)

    def shots(self) -> list[Shot]:
        """List the images."""
        plan = np.random.SeedSequence((self.seed, self._domain()))
        return self.layout.plan(self.spec, np.random.default_rng(plan))

    def world(self) -> World:
        """Return who and what is to be seen."""
        return World(
            self.seed,
            self._domain(),
            shop_outfits=self.spec.shop_outfits,
            sites=self.layout.sites,
        )

    def lists(self, shots: Sequence[Shot]) -> Mapping[str, bytes]:
        """Return the files beside the images, contents by path."""
        draw = np.random.SeedSequence((self.seed, self._domain(), 1))
        return self.layout.lists(self.spec, shots, np.random.default_rng(draw))

    def _domain(self) -> int:
        return zlib.crc32(self.name.encode("ascii"))


@dataclass(frozen=True)
class Label:
    """Everything known about one image.

    Attributes:
        shot: Who, in what, before which camera.
        appearance: Name of the look; people who wear the same clothes have the same one.
        face_box: Where the face is, pixels; None where it is not to be seen.
    """

    shot: Shot
    appearance: str
    face_box: FaceBox | None


def recipe(job: Job) -> dict[str, Any]:
    """Return what decides the bytes of a data set, as it stands in the marker."""
    spec = json.loads(json.dumps(asdict(job.spec)))  # tuples as the lists that JSON reads back
    return {
        "revision": _REVISION,
        "layout": job.name,
        "seed": job.seed,
        "spec": spec,
        "masks": job.write_masks,
    }


def read_marker(folder: Path) -> dict[str, Any] | None:
    """Return the marker of a synthetic data set; None where the folder is none."""
    try:
        found = json.loads((folder / SYNTHETIC_MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_ours = isinstance(found, dict) and found.get("generator") == "reid-core"
    return found if is_ours else None


def job_of(marker: Mapping[str, Any]) -> Job | None:
    """Return what made a data set from its marker.

    Returns:
        None where this version would make other images from the same numbers, or cannot read them.
    """
    try:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in marker["spec"].items()
        }
        job = Job(marker["layout"], marker["seed"], SyntheticSpec(**values), marker["masks"])
        get_layout(job.name)
    except (AttributeError, KeyError, TypeError, ConfigError):
        return None
    wanted = recipe(job)
    return job if all(marker.get(key) == value for key, value in wanted.items()) else None


def digest(job: Job) -> str:
    """Return 8 hex digits that name the recipe."""
    return hashlib.sha256(json.dumps(recipe(job), sort_keys=True).encode()).hexdigest()[:8]


def marker_text(job: Job, size_name: str, labels: Sequence[Label]) -> str:
    """Return the contents of the marker: generator, recipe and counts per split."""
    counts: dict[str, dict[str, int]] = {}
    for split in dict.fromkeys(label.shot.split for label in labels):
        shots = [label.shot for label in labels if label.shot.split == split]
        counts[split] = {
            "images": len(shots),
            "pids": len({shot.pid for shot in shots}),
            "outfits": len({(shot.pid, shot.outfit) for shot in shots}),
        }
    head = {"generator": "reid-core", "version": __version__, "notice": _NOTICE, "size": size_name}
    return json.dumps({**head, **recipe(job), "counts": counts}, indent=2) + "\n"


def write_shot(job: Job, world: World, shot: Shot, folder: Path) -> Label:
    """Render an image and write it, with mask and face crop where they are wanted.

    The folders must exist, except those of masks and faces.
    """
    aspect = job.layout.fixed_aspect
    rendered = world.photograph(shot, job.spec.height, fixed_aspect=aspect)
    save_pixels(rendered.image, folder / shot.path)
    if job.write_masks:
        # PNG whatever the images are: label maps must not be compressed with loss.
        stem = PurePosixPath(shot.path).with_suffix(".png")
        for kind, pixels in (("masks", rendered.mask), ("faces", rendered.face_crop())):
            if pixels is not None:
                path = folder / kind / stem
                path.parent.mkdir(parents=True, exist_ok=True)
                save_pixels(pixels, path)
    appearance = world.outfit(shot.person, shot.outfit, is_shared=shot.is_shared).appearance
    return Label(shot, appearance, rendered.face_box)


def write_labels(path: Path, labels: Sequence[Label]) -> None:
    """Write one row per image: path, labels, and the face box (empty where there is none).

    Where some are not seen by daylight, a column tells by what each is.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        face = [f"face_{side}" for side in FaceBox._fields]
        # Only where there is something to tell: most data sets are seen by daylight alone.
        spectrum = ["spectrum"] if len({label.shot.spectrum for label in labels}) > 1 else []
        labelled = ["path", "split", "pid", "camera", "outfit", "appearance"]
        writer.writerow([*labelled, *spectrum, *face])
        for label in labels:
            shot, box = label.shot, label.face_box
            corners = ["", "", "", ""] if box is None else list(box)
            row = [shot.path, shot.split, shot.pid, shot.camera, shot.outfit, label.appearance]
            writer.writerow([*row, *([shot.spectrum] if spectrum else []), *corners])


def save_pixels(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write (H, W, 3) RGB or (H, W) pixels in the format that the path ends in."""
    image = Image.fromarray(pixels)
    if path.suffix == ".jpg":
        image.save(path, quality=92, subsampling=0)
    elif path.suffix == ".bmp":
        image.save(path)
    else:
        image.save(path, compress_level=3)
