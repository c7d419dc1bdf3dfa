"""Labels of images from a comma-separated table. Imports no torch."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_core.errors import FeatureFileError
from reid_core.evaluation.tables.label_columns import as_label_column, choose_columns

__all__ = ["LabelTable", "check_same_images", "read_label_table"]

_EXPECTED = "path,pid,camid[,clothes_id,modality,split]"


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelTable:
    """The labels of a list of images, N rows.

    Attributes:
        columns: Column (see ``label_columns.COLUMNS``) to (N,) values: int64, or text.
        lines: (N,) int64, line of each row in the file, from 1.
        notes: What was left aside.
    """

    columns: Mapping[str, npt.NDArray[Any]]
    lines: npt.NDArray[np.int64]
    notes: tuple[str, ...] = ()


def read_label_table(path: Path) -> LabelTable:
    """Read a table whose first line names its columns (``path,pid,camid,...``, in any order).

    Raises:
        FeatureFileError: The file is missing or no table, a line has too many or too few fields, a
            column is there twice, or a value is of no use; the message names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            used = _used_columns(header, path)
            fields: dict[str, list[str]] = {name: [] for name in used.values()}
            lines: list[int] = []
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise FeatureFileError(
                        f"{path}, line {reader.line_num}: {len(row)} fields, but the first line "
                        f"names {len(header)} columns ({','.join(header)})"
                    )
                for index, name in used.items():
                    fields[name].append(row[index])
                lines.append(reader.line_num)
    except UnicodeDecodeError as error:
        raise FeatureFileError(f"{path} is not a comma-separated UTF-8 table: {error}") from error
    except csv.Error as error:
        raise FeatureFileError(
            f"{path}, line {reader.line_num}: not a line of a comma-separated table ({error})"
        ) from error
    except OSError as error:
        raise FeatureFileError(f"cannot read the labels {path}: {error.strerror}") from error
    if not lines:
        raise FeatureFileError(f"{path} has a first line but no rows")
    try:
        columns = {
            name: as_label_column(np.array(texts), name, lambda row: f"line {lines[row]}")
            for name, texts in fields.items()
        }
    except FeatureFileError as error:
        raise FeatureFileError(f"{path}: {error}") from error
    unused = [name for index, name in enumerate(header) if index not in used]
    notes = (f"columns of {path} not used: {', '.join(unused)}",) if unused else ()
    return LabelTable(columns=columns, lines=np.array(lines, dtype=np.int64), notes=notes)


def check_same_images(
    source: Path, images: npt.NDArray[np.str_], labels: Path, listed: npt.NDArray[np.str_]
) -> None:
    """Refuse a table in another order than the features, where both name the images.

    Only base names are compared: the folders may be written otherwise, or be left out.

    Args:
        source: The file of features.
        images: (N,) images that it names.
        labels: The table.
        listed: (N,) images that the table names.

    Raises:
        FeatureFileError: Two names differ; the message shows the first pair.
    """
    for row, (image, other) in enumerate(zip(images.tolist(), listed.tolist(), strict=True)):
        if Path(image).name != Path(other).name:
            raise FeatureFileError(
                f"row {row} of {source} is {image}, but {labels} lists {other} there; both must "
                "list the same images in the same order"
            )


def _used_columns(header: list[str], path: Path) -> dict[int, str]:
    """Return the known columns by their place.

    Raises:
        FeatureFileError: A column is there twice, or the identities are missing.
    """
    used = {
        index: found.column
        for index, found in choose_columns(header, path, "column").items()
        if not found.role and found.column != "features"
    }
    if "pid" not in used.values():
        raise FeatureFileError(
            f"{path}: no column pid; its first line is {','.join(header)!r}, expected is "
            f"{_EXPECTED}"
        )
    return used
