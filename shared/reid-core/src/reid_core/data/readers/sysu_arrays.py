"""The arrays that the official pre-processing of SYSU-MM01 makes of the training images.

Four files in the data set's own folder: images, resized to 288 x 144 with Pillow's Lanczos filter,
as uint8 (N, 288, 144, 3) RGB, and their labels 0..K-1, once for the colour cameras (``rgb``) and
once for the infrared ones (``ir``). Rows are in the order in which the reader lists the files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reid_core.data.array_rows import map_array, row_path, split_row
from reid_core.data.readers.listing import Listing
from reid_core.data.sample import Modality, Sample
from reid_core.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["check_array_settings", "has_arrays", "read_arrays"]

_HEIGHT, _WIDTH, _FILTER = 288, 144, "lanczos"

# Arrays hold no cameras: the first camera of each modality stands for all of them.
_PARTS: tuple[tuple[str, Modality, int], ...] = (("rgb", "visible", 0), ("ir", "infrared", 2))


def has_arrays(folder: Path) -> bool:
    """Tell whether any of the four files is there, in the folder or where it may be by mistake."""
    return any(
        file.exists() or _misplaced(file).exists()
        for name, *_ in _PARTS
        for file in _files(folder, name)
    )


def read_arrays(
    listing: Listing, *, num_people: int, from_files: Sequence[Sample] = ()
) -> list[Sample]:
    """Return the training samples that the arrays hold: visible ones first, in the arrays' order.

    Args:
        listing: Names the folder and takes the note on what is used.
        num_people: Training people in the data set's lists.
        from_files: The training samples of the image files, where these are there too: they must
            have the same labels, and give the cameras.

    Raises:
        DatasetError: When a file is missing or cannot be read, has the wrong type or shape, or
            does not fit its labels, or when the labels do not fit each other, the lists or files.
    """
    labels = {name: _read_part(listing.folder, name) for name, *_ in _PARTS}
    people = {name: sorted(set(part)) for name, part in labels.items()}
    found = people["rgb"]
    if found != list(range(len(found))) or people["ir"] != found or len(found) > num_people:
        raise DatasetError(
            f"the labels of the arrays in {listing.folder} must be 0 to K-1 in both modalities, "
            f"with K at most {num_people:,} (the people in the lists); found "
            f"{len(found):,} people up to label {found[-1]} in train_rgb_resized_label.npy and "
            f"{len(people['ir']):,} up to {people['ir'][-1]} in train_ir_resized_label.npy; "
            "make the arrays anew"
        )
    samples = [
        Sample(row_path(_files(listing.folder, name)[0], row), pid, camid, -1, modality)
        for name, modality, camid in _PARTS
        for row, pid in enumerate(labels[name])
    ]
    note = f"train: {len(samples):,} images from the pre-processed arrays train_*_resized_img.npy"
    if not from_files:
        listing.notes.append(f"{note}; these hold no cameras: 1 and 3 stand for all")
        return samples
    listing.notes.append(f"{note}, not from the image files")
    return _with_cameras(listing.folder, samples, from_files)


def check_array_settings(
    samples: Sequence[Sample], *, height: int, width: int, interpolation: str
) -> None:
    """Refuse to resize a second time what the pre-processing has resized.

    Args:
        samples: Training samples, from arrays or not.
        height: Height in pixels that is asked for.
        width: Width in pixels that is asked for.
        interpolation: Filter that is asked for.

    Raises:
        ConfigError: When samples are rows of arrays, and of another size or filter.
    """
    if (height, width, interpolation) == (_HEIGHT, _WIDTH, _FILTER):
        return
    # Rows and files are never mixed.
    row = split_row(samples[0].path) if samples else None
    if row is not None:
        raise ConfigError(
            f"{row[0]} holds images of {_HEIGHT} x {_WIDTH} pixels, resized with {_FILTER}; asked "
            f"for are {height} x {width} and {interpolation}. Use --data.height {_HEIGHT} "
            f"--data.width {_WIDTH} --data.interpolation {_FILTER}, or the image files"
        )


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    """Return the files of the images and of the labels."""
    stem = f"train_{name}_resized"
    return folder / f"{stem}_img.npy", folder / f"{stem}_label.npy"


def _misplaced(file: Path) -> Path:
    """Return where the official script writes a file if its path lacks the final slash."""
    folder = Path(os.path.abspath(file.parent))  # the folder may be given as "."
    return folder.with_name(folder.name + file.name)


def _read_part(folder: Path, name: str) -> list[int]:
    """Return the labels of one modality, after checking them and the images."""
    files = _files(folder, name)
    for file in files:
        if not file.is_file():
            stray = _misplaced(file)
            raise DatasetError(
                f"the pre-processed arrays in {folder} lack {file.name}; "
                + (f"move {stray} there" if stray.exists() else "copy it, or make them anew")
            )
    images, labels = map(map_array, files)
    _check_images(files[0], images)
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DatasetError(
            f"{files[1]} must hold one whole number for each of the {len(images):,} images in "
            f"{files[0].name}; found {labels.dtype} {labels.shape}; make both anew"
        )
    return [int(label) for label in labels]


def _check_images(file: Path, images: npt.NDArray[np.generic]) -> None:
    if images.dtype != "uint8" or images.shape[1:] != (_HEIGHT, _WIDTH, 3) or not len(images):
        raise DatasetError(
            f"{file} must hold images as uint8 (N, {_HEIGHT}, {_WIDTH}, 3); found {images.dtype} "
            f"{images.shape}; make it anew, or remove it to use the image files"
        )


def _with_cameras(
    folder: Path, samples: Sequence[Sample], from_files: Sequence[Sample]
) -> list[Sample]:
    """Give the rows the cameras of the files that they were made of, if they were."""
    rows, files = (
        [(sample.modality, sample.pid) for sample in part] for part in (samples, from_files)
    )
    if rows != files:
        raise DatasetError(
            f"the pre-processed arrays in {folder} were not made of its image files: "
            f"{len(rows):,} rows against {len(files):,} files"
            + (", or other labels" if len(rows) == len(files) else "")
            + "; make them anew, or use the files"
        )
    return [
        Sample(row.path, row.pid, file.camid, -1, row.modality)
        for row, file in zip(samples, from_files, strict=True)
    ]
