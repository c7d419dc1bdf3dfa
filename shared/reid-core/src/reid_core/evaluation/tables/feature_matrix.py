"""From features as a file holds them to what is compared: float32, finite, of length 1 for cosine.

Nothing is converted or copied as a whole unless it has to be: a mapped file of float32 rows of
length 1 is used where it lies.

Legend: N rows of a split, D embedding size, P parts.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_core.errors import FeatureFileError, OutputError
from reid_core.evaluation.counting.scores import l2_normalize
from reid_core.evaluation.tables.feature_table import FeatureRows, FeatureTable
from reid_core.files import atomic_file, make_parent

__all__ = [
    "Metric",
    "Survey",
    "copy_bytes",
    "describe_rows",
    "load_features",
    "survey_rows",
    "write_unit_copy",
]

Metric = Literal["cosine", "euclidean", "inner-product"]

# Rows of length 1 up to rounding are left as they are, so that features that were normalised give
# the very figures that they gave before they were saved.
_UNIT_TOLERANCE = 1e-5

_CHUNK_BYTES = 2**24
_SHOWN = 5


@dataclass(frozen=True)
class Survey:
    """Lengths of the rows of a split (of each part where there are several).

    Attributes:
        shortest: Smallest length above 0.
        longest: Largest length.
        num_scaled: Rows that are not of length 1.
        num_zero: Rows that are all zero; they cannot be scaled.
    """

    shortest: float
    longest: float
    num_scaled: int
    num_zero: int


def survey_rows(rows: FeatureRows) -> Survey:
    """Read the features of a split once.

    Raises:
        FeatureFileError: Rows hold NaN or infinite values (or values beyond float32); the first of
            them are named with their images.
    """
    shortest, longest, num_scaled, num_zero = np.inf, 0.0, 0, 0
    bad: list[int] = []
    for start, chunk in _chunks(rows):
        lengths = torch.linalg.vector_norm(chunk, dim=2, dtype=torch.float64)
        finite = torch.isfinite(lengths).all(1)
        bad += (torch.nonzero(~finite).flatten() + start).tolist()
        above = lengths[lengths > 0]
        if len(above):
            shortest = min(shortest, float(above.min()))
            longest = max(longest, float(above.max()))
        num_zero += int((lengths == 0).any(1).sum())
        num_scaled += int(_is_scaled(lengths).sum())
    if bad:
        table = rows.table
        named = "\n".join(f"  {table.name_row(rows.table_row(row))}" for row in bad[:_SHOWN])
        more = f"\n  ... {len(bad):,} rows in all" if len(bad) > _SHOWN else ""
        raise FeatureFileError(
            f"{len(bad):,} of {len(rows):,} rows hold NaN or infinite values:\n{named}{more}\n"
            "Look at these images and at the network's output."
        )
    return Survey(shortest, longest, num_scaled, num_zero)


def load_features(
    parts: Sequence[FeatureRows], surveys: Sequence[Survey], metric: Metric
) -> Tensor:
    """Return the features of a split as they are compared.

    For cosine every row that is not of length 1 is scaled to it with ``l2_normalize``; of features
    in parts every part, so that the inner product of two images is the sum of the cosines of their
    parts. Otherwise values are only converted.

    Args:
        parts: The rows of the split, from one table or several.
        surveys: What ``survey_rows`` found in each.
        metric: How features are compared.

    Returns:
        (N, D) or (N, D P) float32, parts one after the other: a view of the table where that will
        do, else a copy. Features in memory are scaled in place.
    """
    if not copy_bytes(parts, surveys, metric):
        (rows,) = parts
        result = _as_tensor(rows.table.features[rows.rows])
        if not _scales(surveys[0], metric):
            return result
    else:
        result = torch.empty(sum(map(len, parts)), parts[0].dim)
    offset = 0
    for rows in parts:
        for start, chunk in _chunks(rows):
            values = _scaled(chunk) if metric == "cosine" else chunk
            first = offset + start
            result[first : first + len(chunk)] = values.reshape(len(chunk), -1)
        offset += len(rows)
    return result


def copy_bytes(parts: Sequence[FeatureRows], surveys: Sequence[Survey], metric: Metric) -> int:
    """Return the size of the copy that ``load_features`` has to make; 0 where it makes none."""
    if len(parts) == 1 and parts[0].is_usable:
        writeable = parts[0].table.features.flags.writeable
        if writeable or not _scales(surveys[0], metric):
            return 0
    return sum(rows.num_bytes for rows in parts)


def describe_rows(
    name: str, parts: Sequence[FeatureRows], surveys: Sequence[Survey], metric: Metric
) -> list[str]:
    """Say in sentences what ``load_features`` does to a split, and what is odd about it."""
    notes = []
    kinds = {str(part.table.features.dtype) for part in parts} - {"float32"}
    if kinds:
        notes.append(f"{name}: {', '.join(kinds)} features are compared as float32")
    if metric != "cosine":
        return notes
    count = f"{sum(map(len, parts)):,}"
    num_parts = parts[0].num_parts
    what = "" if num_parts == 1 else f" in one of their {num_parts} parts"
    num_scaled = sum(survey.num_scaled for survey in surveys)
    if num_scaled:
        shortest = min(survey.shortest for survey in surveys)
        longest = max(survey.longest for survey in surveys)
        notes.append(
            f"{name}: {num_scaled:,} of {count} rows{what} scaled to length 1 (lengths from "
            f"{shortest:.3g} to {longest:.3g})"
        )
    num_zero = sum(survey.num_zero for survey in surveys)
    if num_zero:
        notes.append(f"{name}: {num_zero:,} of {count} rows are zero{what}: the cosine is 0 there")
    if num_parts > 1:
        notes.append(f"{name}: the score is the sum of the cosines of {num_parts} parts")
    return notes


def write_unit_copy(table: FeatureTable, path: Path) -> None:
    """Write all features of a table scaled to length 1, a few rows at a time, as .npy.

    Args:
        table: What is to be copied.
        path: The copy; its folder is made where it is absent.

    Raises:
        FeatureFileError: Features are not finite.
        OutputError: The copy exists already, or cannot be written.
    """
    if path.exists():
        raise OutputError(
            f"{path} exists; if it is the copy that you want, evaluate it in place of "
            f"{table.source}, else name another folder"
        )
    make_parent(path)
    rows = FeatureRows(table=table, rows=slice(0, len(table)))
    survey_rows(rows)
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), rows.dim)}
    with atomic_file(path, needed=rows.num_bytes) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _, chunk in _chunks(rows):
            file.write(_scaled(chunk).reshape(len(chunk), -1).numpy().astype("<f4").tobytes())


def _chunks(rows: FeatureRows) -> Iterator[tuple[int, Tensor]]:
    """Yield the position and the float32 values, (n, P, D), of a few rows at a time."""
    step = max(1, _CHUNK_BYTES // (4 * rows.dim))
    for start in range(0, len(rows), step):
        part = rows.part(start, min(start + step, len(rows)))
        with np.errstate(over="ignore"):  # what becomes infinite is refused by name
            values = np.ascontiguousarray(part.table.features[part.rows], dtype=np.float32)
        chunk = _as_tensor(values)
        # Parts lie last in the file, and one after the other in what is compared.
        yield start, chunk[:, None] if chunk.ndim == 2 else chunk.transpose(1, 2)


def _scales(survey: Survey, metric: Metric) -> bool:
    return metric == "cosine" and survey.num_scaled > 0


def _scaled(chunk: Tensor) -> Tensor:
    """Return (n, P, D) with the parts of the rows that are not of length 1 scaled to it."""
    lengths = torch.linalg.vector_norm(chunk, dim=2, dtype=torch.float64)
    scaled = _is_scaled(lengths)
    if not bool(scaled.any()):
        return chunk
    result = chunk.clone()
    values = chunk[scaled]
    result[scaled] = l2_normalize(values.reshape(-1, chunk.shape[2])).reshape(values.shape)
    return result


def _is_scaled(lengths: Tensor) -> Tensor:
    """Tell which rows of (n, P) lengths are not of length 1 in all parts; zero cannot be."""
    off = (lengths - 1).abs() > _UNIT_TOLERANCE
    return (off & (lengths > 0)).any(1)


def _as_tensor(values: npt.NDArray[Any]) -> Tensor:
    """Return a tensor on the array's memory, which is only read where it is read-only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(values)
