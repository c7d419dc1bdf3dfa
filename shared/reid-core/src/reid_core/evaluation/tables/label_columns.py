"""Columns of a table of images: their names and spellings, and how values are read.

A column is known by one name (``COLUMNS``) and accepted under several, because every training
script saves its features under names of its own. Imports no torch.

Legend: N rows of a table.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from reid_core.errors import FeatureFileError
from reid_core.evaluation.rules import Indices

__all__ = [
    "COLUMNS",
    "INTEGER_COLUMNS",
    "ColumnName",
    "Role",
    "as_label_column",
    "choose_columns",
    "number_names",
]

Role = Literal["query", "gallery", ""]
"""The list that images belong to, where their file says so."""

COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "features": ("feature", "feats", "feat", "embeddings", "embedding", "f"),
        "path": ("paths", "img_path", "img_paths", "image_paths", "filename", "filenames"),
        "pid": ("pids", "person_id", "person_ids", "id", "ids", "label", "labels"),
        "camid": ("camids", "cam", "cams", "camera", "cameras", "cam_id", "cam_ids"),
        "clothes_id": ("clothes_ids", "clothes", "cloth_id", "cloth_ids", "clothing_id"),
        "modality": ("modalities", "modal", "modals"),
        "split": ("splits", "subset", "subsets"),
    }
)
"""Column to the other names that are accepted for it; capitals do not matter."""

INTEGER_COLUMNS = ("pid", "camid", "clothes_id")
"""Columns of integers, or of names that are numbered when they are used."""

_SPELLINGS = {spelling: name for name, others in COLUMNS.items() for spelling in (name, *others)}
# qf, q_pids, query_label: arrays of the queries in a file that holds both lists.
_PREFIX = re.compile(r"(?P<role>query|gallery|q|g)_?(?P<column>.+)")
_ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("q", "query"), "query"),
    **dict.fromkeys(("g", "gallery"), "gallery"),
}

_MODALITIES = {
    **dict.fromkeys(("visible", "vis", "rgb"), "visible"),
    **dict.fromkeys(("infrared", "ir", "nir", "thermal"), "infrared"),
}

Where = Callable[[int], str]
"""From a row to words that lead there: ``row 7``, ``line 9``."""


class ColumnName(NamedTuple):
    """What an array of a file holds.

    Attributes:
        column: A key of ``COLUMNS``.
        role: ``query`` or ``gallery`` where the name says so, else empty.
    """

    column: str
    role: Role = ""


def choose_columns(names: Sequence[str], source: Path, what: str) -> dict[int, ColumnName]:
    """Find the known columns among the names of a file.

    A column under its own name (or the plural with s) goes before one under another name, so that
    a table may have both ``pid`` and ``id``.

    Args:
        names: All names, in the file's order.
        source: The file, for messages.
        what: ``array`` or ``column``, for messages.

    Returns:
        Position in ``names`` to what is there.

    Raises:
        FeatureFileError: Two names mean the same.
    """
    chosen: dict[ColumnName, int] = {}
    for index, name in enumerate(names):
        found = _column_name(name)
        if found is None:
            continue
        twin = chosen.get(found)
        if twin is None or (_is_own(name, found) and not _is_own(names[twin], found)):
            chosen[found] = index
        elif _is_own(name, found) == _is_own(names[twin], found):
            raise FeatureFileError(
                f"{source} has the {what} {found.column} twice, as {names[twin]!r} and {name!r}"
            )
    return {index: found for found, index in sorted(chosen.items(), key=lambda item: item[1])}


def as_label_column(values: npt.NDArray[Any], column: str, where: Where) -> npt.NDArray[Any]:
    """Read the values of a column of labels.

    Args:
        values: (N,) numbers or text.
        column: ``path``, ``split``, ``modality`` or one of ``INTEGER_COLUMNS``.
        where: Names a row in messages.

    Returns:
        (N,) int64 for the columns of integers, or text where they hold names; (N,) text for the
        others. An outfit that is not given (empty or NaN) is -1.

    Raises:
        FeatureFileError: A value is of no use; the message says which and where.
    """
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if column in INTEGER_COLUMNS:
        return _integers(values, column, where)
    if values.dtype.kind != "U":
        accepted = "visible or infrared" if column == "modality" else "text"
        raise FeatureFileError(
            f"{column} holds {values.dtype} values; {accepted} is expected in every row"
        )
    return _modalities(values, where) if column == "modality" else values


def number_names(columns: list[npt.NDArray[Any]]) -> list[Indices]:
    """Number the names of a column from 0 in sorted order, jointly over several tables.

    Args:
        columns: The same column of each table, as ``as_label_column`` returns it.

    Returns:
        The columns as int64; numbers stay as they are.

    Raises:
        FeatureFileError: One table has numbers and another names.
    """
    if all(values.dtype.kind == "i" for values in columns):
        return columns
    if any(values.dtype.kind == "i" for values in columns):
        raise FeatureFileError("one file has numbers and the other names; use one of both in both")
    borders = np.cumsum([len(values) for values in columns])[:-1]
    texts = np.concatenate(columns)
    _, numbers = np.unique(texts, return_inverse=True)
    # An outfit that is not known is -1 beside names, too.
    return np.split(np.where(texts == "-1", -1, numbers.astype(np.int64)), borders)


def _column_name(name: str) -> ColumnName | None:
    lower = name.strip().lower()
    if lower in _SPELLINGS:
        return ColumnName(_SPELLINGS[lower])
    found = _PREFIX.fullmatch(lower)
    if found is None or found["column"] not in _SPELLINGS:
        return None
    return ColumnName(_SPELLINGS[found["column"]], _ROLES[found["role"]])


def _is_own(name: str, found: ColumnName) -> bool:
    return name.strip().lower().endswith((found.column, f"{found.column}s"))


def _integers(values: npt.NDArray[Any], column: str, where: Where) -> npt.NDArray[Any]:
    kind = values.dtype.kind
    if kind in "iu":
        return values.astype(np.int64)
    if kind == "f":
        return _whole_numbers(values, column, where)
    if kind != "U":
        raise FeatureFileError(f"{column} holds {values.dtype} values; integers are expected")
    texts = np.char.strip(values)
    if column == "clothes_id":
        texts = np.where(texts == "", "-1", texts)
    # Python reads 1_11 and 11_1 as one number, 111; they are names.
    if not (np.char.find(texts, "_") >= 0).any():
        with contextlib.suppress(ValueError, OverflowError):
            return texts.astype(np.int64)
    return _names(texts, column, where)


def _whole_numbers(values: npt.NDArray[Any], column: str, where: Where) -> Indices:
    if column == "clothes_id":
        values = np.where(np.isnan(values), -1, values)
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(~(np.abs(values) < 2**53) | (values != np.round(values)))
    if len(wrong):
        raise FeatureFileError(
            f"{column} {values[wrong[0]]:g} in {where(int(wrong[0]))} is not an integer"
            f"{_more(len(wrong))}"
        )
    return values.astype(np.int64)


def _names(texts: npt.NDArray[Any], column: str, where: Where) -> npt.NDArray[Any]:
    """Read text that is not all integers: numbers like ``3.0``, or names in every row."""
    numbers = np.array([_number(text) for text in texts.tolist()])
    is_number = ~np.isnan(numbers)
    if column == "clothes_id":
        is_number &= texts != "-1"
    if is_number.any():
        wrong = np.flatnonzero(np.isnan(numbers))
        if not len(wrong):
            return _whole_numbers(numbers, column, where)
        raise FeatureFileError(
            f"{column} {str(texts[wrong[0]])!r} in {where(int(wrong[0]))} is not an integer, "
            f"though others are{_more(len(wrong))}; use integers, or names, in all rows"
        )
    empty = np.flatnonzero(texts == "")
    if len(empty):
        raise FeatureFileError(f"{column} is empty in {where(int(empty[0]))}{_more(len(empty))}")
    return texts


def _number(text: str) -> float:
    try:
        return np.nan if "_" in text else float(text)
    except ValueError:
        return np.nan


def _modalities(values: npt.NDArray[Any], where: Where) -> npt.NDArray[Any]:
    found, inverse = np.unique(values, return_inverse=True)
    known = [_MODALITIES.get(text.strip().lower(), "") for text in found.tolist()]
    wrong = np.flatnonzero(np.array([not name for name in known])[inverse])
    if len(wrong):
        raise FeatureFileError(
            f"modality {str(values[wrong[0]])!r} in {where(int(wrong[0]))} is neither visible nor "
            f"infrared{_more(len(wrong))}"
        )
    return np.array(known)[inverse]


def _more(count: int) -> str:
    return "" if count == 1 else f" ({count:,} such rows)"
