"""Which rows of the files of features are the splits of a protocol, and what their labels are.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_core.errors import FeatureFileError, ProtocolError
from reid_core.evaluation.protocols.definition import Protocol
from reid_core.evaluation.rules import UNKNOWN, Indices
from reid_core.evaluation.tables.feature_table import FeatureRows, FeatureTable, SplitRows
from reid_core.evaluation.tables.label_columns import INTEGER_COLUMNS, number_names

__all__ = ["FeatureFiles"]


class FeatureFiles:
    """The files of features of one evaluation, taken for the splits of its protocols.

    Args:
        tables: The files. Identities, cameras and outfits that are names are numbered jointly.
        camid_base: Number of the first camera in the labels; our labels count from 0.

    Attributes:
        tables: The tables, with integers for names and cameras from 0.
        notes: What to know of them.

    Raises:
        FeatureFileError: The files do not go together.
    """

    def __init__(self, tables: Sequence[FeatureTable], *, camid_base: int = 0) -> None:
        notes = [f"{table.source}: {note}" for table in tables for note in table.notes]
        widths = {table.features.shape[1:] for table in tables}
        if len(widths) > 1:
            listed = ", ".join(f"{table.source} {table.features.shape}" for table in tables)
            raise FeatureFileError(f"features differ in size: {listed}; use one network for all")
        with_split = [table for table in tables if "split" in table.columns]
        if with_split and len(with_split) < len(tables):
            raise FeatureFileError(
                f"only {with_split[0].source} has a column split; give it to both files, or to none"
            )
        self._has_camera_names = any(
            table.columns["camid"].dtype.kind == "U" for table in tables if "camid" in table.columns
        )
        tables, found = _numbered(tables)
        self.tables = tuple(_from_zero(table, camid_base) for table in tables)
        self.notes = (*notes, *found)
        self._splits: dict[tuple[str, ...], SplitRows] = {}

    @property
    def num_images(self) -> int:
        """Rows of all files."""
        return sum(map(len, self.tables))

    def splits_of(self, protocol: Protocol) -> dict[str, SplitRows]:
        """Return the splits of a protocol that the files hold, each under the protocol's name.

        With a column ``split`` that decides. Without, a file of queries and a file of gallery
        images are the protocol's splits, and one file is the split of a protocol that has a single
        one. A protocol of a single split gets queries and gallery together. Where every trial has
        lists of its own, files without names of splits are the lists of trial 1.

        Raises:
            ProtocolError: The files do not say which rows are queries.
        """
        found: dict[str, SplitRows] = {}
        for name in protocol.splits:
            rows = self._split(self._keys(name, protocol))
            if rows is not None:
                found[name] = rows
        return found

    def names_present(self) -> str:
        """Return the names of the splits with their numbers of images, for messages."""
        counts: dict[str, int] = {}
        for table in self.tables:
            names = table.columns.get("split", np.full(len(table), table.role or "no split"))
            for name, count in zip(*np.unique(names, return_counts=True), strict=True):
                counts[str(name)] = counts.get(str(name), 0) + int(count)
        return ", ".join(f"{name} ({count:,})" for name, count in counts.items())

    def check_cameras(self, protocol: Protocol) -> None:
        """Refuse camera labels that cannot be the data set's own, counted from 0.

        Raises:
            ProtocolError: The protocol names cameras by number, and the labels are names or other
                numbers.
        """
        named = {
            *(protocol.query_cameras or ()),
            *(protocol.gallery_cameras or ()),
            *(camera for pair in protocol.hidden for camera in pair),
        }
        camids = [table.columns["camid"] for table in self.tables if "camid" in table.columns]
        if not named or not camids:
            return
        if self._has_camera_names:
            raise ProtocolError(
                f"{protocol.name} goes by the numbers of cameras, but camid holds names; give the "
                "data set's own numbers"
            )
        found = np.unique(np.concatenate(camids))
        strange = found[found > max(named)]
        if not len(strange):
            return
        advice = "these are not the cameras of this data set"
        if found.min() == 1 and found.max() == max(named) + 1:
            advice = "they seem to be counted from 1: add --camid-base 1"
        raise ProtocolError(
            f"{protocol.name} knows cameras 0 to {max(named)}, counted from 0, but camid holds "
            f"{', '.join(map(str, found.tolist()[:12]))}; {advice}"
        )

    def _keys(self, name: str, protocol: Protocol) -> tuple[str, ...]:
        """Return the names under which the rows of a split are found in the files."""
        both = ("query", "gallery")
        if "split" in self.tables[0].columns:
            present = {
                str(text) for table in self.tables for text in np.unique(table.columns["split"])
            }
            is_whole = len(protocol.splits) == 1 and name not in present
            return both if is_whole and present >= set(both) else (name,)
        query, gallery = protocol.splits_of_trial(0)
        if name not in (query, gallery):
            return ()
        if query == gallery:
            return ("",) if not self.tables[0].role else both
        if not self.tables[0].role:
            raise ProtocolError(
                f"{protocol.name} needs the splits {query} and {gallery}, but nothing says which "
                "rows are which; give two files (reid-eval QUERY GALLERY), or a column split."
            )
        return ("query",) if name == query else ("gallery",)

    def _split(self, keys: tuple[str, ...]) -> SplitRows | None:
        """Return the rows under some names; the same object for the same names."""
        if keys not in self._splits:
            parts = tuple(
                FeatureRows(table=table, rows=rows)
                for table in self.tables
                for rows in [_rows_named(table, keys)]
                if rows is not None
            )
            if not parts:
                return None
            self._splits[keys] = SplitRows(parts=parts)
        return self._splits[keys]


def _rows_named(table: FeatureTable, keys: tuple[str, ...]) -> Indices | slice | None:
    if "split" not in table.columns:
        return slice(0, len(table)) if table.role in keys else None
    rows = np.flatnonzero(np.isin(table.columns["split"], keys))
    if not len(rows):
        return None
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last + 1 - first == len(rows) else rows


def _numbered(tables: Sequence[FeatureTable]) -> tuple[list[FeatureTable], list[str]]:
    """Replace names by numbers, jointly over the files."""
    notes = []
    columns: list[Mapping[str, npt.NDArray[Any]]] = [table.columns for table in tables]
    for name in INTEGER_COLUMNS:
        present = [index for index, own in enumerate(columns) if name in own]
        before = [columns[index][name] for index in present]
        try:
            after = number_names(before)
        except FeatureFileError as error:
            raise FeatureFileError(f"{name}: {error}") from error
        for index, values in zip(present, after, strict=True):
            columns[index] = {**columns[index], name: values}
        if present and before[0].dtype.kind == "U":
            notes.append(f"{name} holds names ({str(before[0][0])!r}, ...), which were numbered")
    numbered = [replace(table, columns=own) for table, own in zip(tables, columns, strict=True)]
    return numbered, notes


def _from_zero(table: FeatureTable, camid_base: int) -> FeatureTable:
    if "camid" not in table.columns:
        return table
    camids = table.columns["camid"]
    known = camids != UNKNOWN
    shifted = np.where(known, camids - camid_base, UNKNOWN)
    wrong = np.flatnonzero(known & (shifted < 0))
    if len(wrong):
        hint = "; leave --camid-base out if cameras count from 0" if camid_base else ""
        raise FeatureFileError(
            f"{table.name_row(int(wrong[0]))}: camid {camids[wrong[0]]} is below {camid_base}, the "
            f"number of the first camera, and -1 stands for an unknown one{hint}"
        )
    return replace(table, columns={**table.columns, "camid": shifted})
