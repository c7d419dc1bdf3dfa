"""Exact annotations of synthetic images, in the form in which real ones come from other programs.

A folder of annotations holds what human parsing, face detection and face restoration would give of
a data set: ``parsing/`` with a label map of every image (8-bit PNG of the image's size, numbers of
`LIP_LABELS`), ``faces.json`` with the boxes of the faces, and ``restored/`` with a picture of each
face in high resolution (8-bit RGB PNG). Both trees are parallel to that of the images. The scenes
are drawn once more for it; the images are not touched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from reid_core.data.synthetic.files import Job, job_of, read_marker, recipe, save_pixels
from reid_core.data.synthetic.generate import ensure_synthetic
from reid_core.data.synthetic.parts import Part
from reid_core.data.synthetic.portrait import draw_portrait, face_square
from reid_core.data.synthetic.publish import has_content, move_into_place, partial_folder
from reid_core.data.synthetic.render import FaceBox
from reid_core.data.synthetic.shots import Shot
from reid_core.data.synthetic.spec import Size, SyntheticSpec
from reid_core.data.synthetic.workers import write_shots
from reid_core.data.synthetic.world import World
from reid_core.errors import DatasetError, OutputError
from reid_core.files import output_error
from reid_core.processes import choose_workers

__all__ = ["FACES", "LIP_LABELS", "PARSING", "RESTORED", "annotate_synthetic", "ensure_annotations"]

PARSING, RESTORED, FACES = "parsing", "restored", "faces.json"
"""Names of the trees of label maps and of restored faces, and of the file of face boxes."""

_MARKER = "annotations.json"
# Raised whenever the same data set would get other annotations.
_REVISION = 1

LIP_LABELS: Mapping[Part, int] = MappingProxyType(
    {
        Part.BACKGROUND: 0,
        Part.HAT: 1,
        Part.HAIR: 2,
        Part.SUNGLASSES: 4,
        Part.UPPER_CLOTHES: 5,
        Part.DRESS: 6,
        Part.BELT: 9,
        Part.PANTS: 9,
        Part.SCARF: 11,
        Part.SKIRT: 12,
        Part.FACE: 13,
        Part.LEFT_ARM: 14,
        Part.RIGHT_ARM: 15,
        Part.LEFT_LEG: 16,
        Part.RIGHT_LEG: 17,
        Part.LEFT_SHOE: 18,
        Part.RIGHT_SHOE: 19,
        Part.BAG: 0,
    }
)
"""Numbers of the body parts in the LIP data set (20 classes; Gong et al., CVPR 2017).

It has no bags, which are background there, and no belts, which go with the trousers. Coats and
jackets are upper clothes here, because an open one shows what is worn below.
"""


class _Annotation(NamedTuple):
    """What is written of one image into the file of face boxes."""

    path: str
    face_box: FaceBox | None


def ensure_annotations(
    layout: str,
    *,
    size: Size | SyntheticSpec = "demo",
    seed: int = 1,
    cache_dir: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Return the annotations of a synthetic data set from the cache, made there on first use.

    The data set is made, too, if it is not there.

    Args:
        layout: As for `synthesize`.
        size: As for `synthesize`.
        seed: As for `synthesize`.
        cache_dir: As for `ensure_synthetic`.
        progress: Called with (images done, images in all), for the images and again for their
            annotations; not called for what is there already.

    Returns:
        The folder of annotations, beside that of the data set.

    Raises:
        ConfigError: Unknown layout or size, or a negative seed.
        OutputError: The cache cannot be written.
    """
    own = ensure_synthetic(layout, size=size, seed=seed, cache_dir=cache_dir, progress=progress)
    folder = own.parent.with_name(f"{own.parent.name}-annotations")
    return annotate_synthetic(own, folder, progress=progress)


def annotate_synthetic(
    data: Path,
    folder: Path,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the annotations of a synthetic data set.

    The folder appears at once when it is complete. A complete one of the same data set is reused,
    annotations of another one are replaced, and anything else is left alone.

    Args:
        data: The data set's own folder, as `synthesize` returned it.
        folder: Folder to write; made if missing.
        workers: Processes; None takes the available cores where it pays.
        progress: Called with (images done, images in all).

    Returns:
        ``folder``.

    Raises:
        DatasetError: The data set is not synthetic, or another version of the library made it.
        OutputError: The folder holds something else, or could not be written.
    """
    job = _read_job(data)
    try:
        if _is_complete(folder, job):
            return folder
        with partial_folder(folder) as partial:
            _fill(partial, job, workers, progress)
            move_into_place(partial, folder, lambda: _is_complete(folder, job))
    except OSError as error:
        raise output_error(folder, error) from error
    return folder


def _read_job(data: Path) -> Job:
    marker = read_marker(data)
    if marker is None:
        raise DatasetError(
            f"{data} is no synthetic data set (it holds no synthetic.json), and only those can be "
            "annotated exactly; give the folder that `reid-data synthesize` names"
        )
    job = job_of(marker)
    if job is None:
        raise DatasetError(
            f"{data} was made by another version of reid-core ({marker.get('version')}), which "
            "drew other images from the same numbers; make it again with `reid-data synthesize`"
        )
    return job


def _fill(
    folder: Path,
    job: Job,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write label maps, restored faces, face boxes and, last, the marker."""
    shots = job.shots()
    for parent in sorted({PurePosixPath(shot.path).parent for shot in shots}):
        for tree in (PARSING, RESTORED):
            (folder / tree / parent).mkdir(parents=True, exist_ok=True)
    number = choose_workers(len(shots)) if workers is None else workers
    boxes: dict[str, FaceBox | None] = {}
    for annotation in write_shots(job, shots, folder, number, _annotate):
        boxes[annotation.path] = annotation.face_box
        if progress is not None:
            progress(len(boxes), len(shots))
    (folder / FACES).write_text(_faces_text(boxes), encoding="utf-8", newline="\n")
    marker = json.dumps(_recipe(job), indent=2) + "\n"
    (folder / _MARKER).write_text(marker, encoding="utf-8", newline="\n")


def _annotate(job: Job, world: World, shot: Shot, folder: Path) -> _Annotation:
    """Write the label map and, where a face is to be seen, the restored face of one image."""
    scene = world.stage(shot, job.spec.height, fixed_aspect=job.layout.fixed_aspect)
    rendered = scene.render()
    labels = np.zeros(max(Part) + 1, np.uint8)
    labels[list(LIP_LABELS)] = list(LIP_LABELS.values())
    below = PurePosixPath(shot.path).with_suffix(".png")
    save_pixels(labels[rendered.mask], folder / PARSING / below)
    if rendered.face_box is not None:
        square = face_square(rendered.face_box)
        save_pixels(draw_portrait(scene, rendered.framing, square), folder / RESTORED / below)
    return _Annotation(shot.path, rendered.face_box)


def _faces_text(boxes: Mapping[str, FaceBox | None]) -> str:
    """Return JSON with a line per image: its path and the boxes found in it, with their scores."""
    found = {path: [] if box is None else [[*map(float, box), 1.0]] for path, box in boxes.items()}
    lines = (f"{json.dumps(path)}: {json.dumps(faces)}" for path, faces in found.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _recipe(job: Job) -> dict[str, Any]:
    """Return what decides the bytes of the annotations, as it stands in their marker."""
    return {"generator": "reid-core", "annotations": _REVISION, "of": recipe(job)}


def _is_complete(folder: Path, job: Job) -> bool:
    """Tell whether a folder holds the wanted annotations; False means that it may be written.

    Raises:
        OutputError: The folder holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    found = _read_json(folder / _MARKER)
    if found is None or "annotations" not in found:
        raise OutputError(
            f"{folder} is there already and holds no annotations of ours (no {_MARKER}), so it is "
            "left alone; choose another folder or move it away"
        )
    faces = _read_json(folder / FACES)
    if found != _recipe(job) or faces is None:
        return False
    for shot in job.shots():
        below = PurePosixPath(shot.path).with_suffix(".png")
        trees = (PARSING, RESTORED) if faces.get(shot.path) else (PARSING,)
        if not all(has_content(folder / tree / below) for tree in trees):
            return False
    return True


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
