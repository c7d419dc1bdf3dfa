"""One's own images in a table: path, pid, camid and more."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from reid_core.data.readers.custom import CUSTOM_SPLITS, CustomImage, label_splits
from reid_core.data.sample import Modality, ReIDDataset
from reid_core.errors import DatasetError, DatasetNotFoundError

__all__ = ["CSV_LAYOUT", "read_csv"]

CSV_LAYOUT = """\
path,pid,camid,clothes_id,modality,split
images/a.jpg,12,1,3,visible,train
path and pid are needed; the other columns may be left out. Paths are relative to the table's
folder, or absolute. pid, camid and clothes_id are numbers or names. modality: visible or infrared.
split: train, query or gallery; without that column every row is training data."""

_COLUMNS = ("path", "pid", "camid", "clothes_id", "modality", "split")
_SHOWN = 5


def read_csv(path: Path) -> ReIDDataset:
    """Read a table of images.

    Splits keep the order of the rows. See ``CSV_LAYOUT`` for the columns.

    Raises:
        DatasetNotFoundError: When there is no such file.
        DatasetError: When a column is missing, or rows are wrong or name files that do not exist
            (up to five are shown, with their line numbers).
    """
    if not path.is_file():
        raise DatasetNotFoundError(_no_file(path))
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or ()]
            _check_header(path, header)
            reader.fieldnames = header
            images = _read_rows(path, reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not a comma-separated UTF-8 table: {error}") from error
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error
    if not images:
        raise DatasetError(f"{path} has a header but no rows")
    splits, notes = label_splits(images)
    unused = [name for name in header if name not in _COLUMNS]
    if unused:
        notes.append(f"columns not used: {', '.join(unused)}")
    return ReIDDataset(name="csv", root=path.parent, splits=splits, notes=tuple(notes))


def _no_file(path: Path) -> str:
    if not path.is_dir():
        return f"the table {path} does not exist. Expected:\n{CSV_LAYOUT}"
    tables = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() == ".csv")
    found = f"tables in it: {', '.join(tables)}" if tables else "there is no .csv file in it"
    return f"{path} is a folder; give the table itself ({found}). Expected:\n{CSV_LAYOUT}"


def _check_header(path: Path, header: Sequence[str]) -> None:
    absent = [name for name in ("path", "pid") if name not in header]
    if absent:
        raise DatasetError(
            f"{path}: no column {' and '.join(absent)}; its first line is "
            f"{','.join(header)!r}. Expected:\n{CSV_LAYOUT}"
        )


def _read_rows(path: Path, reader: csv.DictReader[str]) -> list[CustomImage]:
    images, errors = [], []
    for row in reader:
        values = {name: (row.get(name) or "").strip() for name in _COLUMNS}
        if "split" not in (reader.fieldnames or ()):
            values["split"] = "train"
        if "modality" not in (reader.fieldnames or ()):
            values["modality"] = "visible"
        image = path.parent / values["path"]
        wrong = list(_faults(values, image))
        if wrong:
            errors.append(f"line {reader.line_num}: {'; '.join(wrong)}")
            continue
        modality: Modality = "infrared" if values["modality"] == "infrared" else "visible"
        images.append(
            CustomImage(
                image,
                values["split"],
                values["pid"],
                values["camid"] or None,
                values["clothes_id"] or None,
                modality,
            )
        )
    if errors:
        shown = "\n".join(f"  {error}" for error in errors[:_SHOWN])
        more = f"\n  ... {len(errors):,} lines in all" if len(errors) > _SHOWN else ""
        raise DatasetError(f"{path} has lines that cannot be used:\n{shown}{more}")
    return images


def _faults(values: dict[str, str], image: Path) -> Iterator[str]:
    if not values["path"]:
        yield "path is empty"
    elif not os.path.isfile(image):
        yield f"no such file: {image}"
    if not values["pid"]:
        yield "pid is empty"
    if values["split"] not in CUSTOM_SPLITS:
        yield f"split {values['split']!r} is none of {', '.join(CUSTOM_SPLITS)}"
    if values["modality"] not in get_args(Modality):
        yield f"modality {values['modality']!r} is none of {', '.join(get_args(Modality))}"
