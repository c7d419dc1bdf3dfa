"""Features of images with their labels, as files hold them. Imports no torch.

Legend: N rows (images) of a file or of a selection, D embedding size, P parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_core.data.sample import Sample
from reid_core.evaluation.rules import Indices, Labels
from reid_core.evaluation.tables.label_columns import Role

__all__ = ["FeatureRows", "FeatureTable", "RowLabels", "SplitRows"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureTable:
    """Features as a file holds them, with what is known of their images.

    Attributes:
        source: The file.
        features: (N, D), or (N, D, P) for features in parts; any type of real numbers.
        columns: Column of ``COLUMNS`` to (N,) values: int64, or text.
        role: The list that all rows belong to where the file says so (or its place on the command
            line), else empty.
        is_mapped: Whether ``features`` are read from the file when they are used.
        lines: (N,) lines of the table of labels, where there is one.
        labels_source: That table.
        root: Folder that relative paths of images start from.
        notes: What was left aside while reading.
    """

    source: Path
    features: npt.NDArray[Any]
    columns: Mapping[str, npt.NDArray[Any]]
    role: Role = ""
    is_mapped: bool = False
    lines: npt.NDArray[np.int64] | None = None
    labels_source: Path | None = None
    root: Path = Path()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.features)

    def name_row(self, row: int) -> str:
        """Return words that lead to a row: the file, the row from 0, the image if known."""
        image = f" ({self.columns['path'][row]})" if "path" in self.columns else ""
        return f"{self.source}, row {row}{image}"


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureRows:
    """Some rows of a table: the images of a split.

    Attributes:
        table: The table.
        rows: (N,) int64 rows, or a slice of consecutive ones.
    """

    table: FeatureTable
    rows: Indices | slice

    def __len__(self) -> int:
        if isinstance(self.rows, slice):
            return len(range(*self.rows.indices(len(self.table))))
        return len(self.rows)

    @property
    def dim(self) -> int:
        """Numbers per image, D, or D times P."""
        return int(np.prod(self.table.features.shape[1:]))

    @property
    def num_parts(self) -> int:
        """P; 1 for features that are not in parts."""
        return self.table.features.shape[2] if self.table.features.ndim == 3 else 1

    @property
    def num_bytes(self) -> int:
        """Size as float32."""
        return 4 * len(self) * self.dim

    @property
    def is_usable(self) -> bool:
        """Whether the rows can be compared where they lie, lengths apart."""
        features = self.table.features
        return (
            isinstance(self.rows, slice)
            and features.dtype == np.float32
            and features.dtype.isnative
            and features.flags.c_contiguous
            and features.ndim == 2
        )

    def table_row(self, position: int) -> int:
        """Return the row of the table that stands at a position of this selection."""
        if isinstance(self.rows, slice):
            return range(*self.rows.indices(len(self.table)))[position]
        return int(self.rows[position])

    def part(self, start: int, stop: int) -> FeatureRows:
        """Return the rows from position ``start`` to before ``stop``."""
        if isinstance(self.rows, slice):
            first = self.rows.indices(len(self.table))[0]
            return replace(self, rows=slice(first + start, first + stop))
        return replace(self, rows=self.rows[start:stop])


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitRows:
    """A list of images: rows of one file of features or of several, one file after the other.

    Attributes:
        parts: The rows; one entry per file that has some.
    """

    parts: tuple[FeatureRows, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def part(self, start: int, stop: int) -> SplitRows:
        """Return the images from position ``start`` to before ``stop``."""
        parts = []
        for rows in self.parts:
            first, last = max(start, 0), min(stop, len(rows))
            if first < last:
                parts.append(rows.part(first, last))
            start, stop = start - len(rows), stop - len(rows)
        return SplitRows(parts=tuple(parts))

    def column(self, name: str) -> npt.NDArray[Any] | None:
        """Return the values of a label; None unless all files have it."""
        if any(name not in part.table.columns for part in self.parts):
            return None
        return np.concatenate([part.table.columns[name][part.rows] for part in self.parts])

    def labels(self, *, with_paths: bool) -> RowLabels:
        """Return the labels of the images.

        Args:
            with_paths: Include the image files; a million of them takes some 300 MB.
        """
        paths = self.column("path") if with_paths else None
        return RowLabels(
            pids=self.column("pid"),  # type: ignore[arg-type]  # no table is without
            camids=self.column("camid"),  # type: ignore[arg-type]
            clothes_ids=self.column("clothes_id"),  # type: ignore[arg-type]
            modalities=self.column("modality"),  # type: ignore[arg-type]
            paths=() if paths is None else tuple(map(Path, paths.tolist())),
            rows=self,
        )

    def place(self, position: int) -> tuple[FeatureTable, int]:
        """Return the table and the row in it of the image at a position of the list."""
        for part in self.parts:
            if position < len(part):
                return part.table, part.table_row(position)
            position -= len(part)
        raise IndexError(position)


@dataclass(frozen=True, kw_only=True, eq=False)
class RowLabels(Labels):
    """Labels that make a ``Sample`` of a row when it is asked for: a million would fill memory.

    Samples need paths.

    Attributes:
        rows: The images.
    """

    rows: SplitRows

    def __getitem__(self, position: int) -> Sample:
        table, row = self.rows.place(position)
        modality = str(self.modalities[position])
        return Sample(
            path=table.root / str(table.columns["path"][row]),
            pid=int(self.pids[position]),
            camid=int(self.camids[position]),
            clothes_id=int(self.clothes_ids[position]),
            modality="infrared" if modality == "infrared" else "visible",
        )
