"""Features of images and their labels, read from .npz, .npy with a table, or .parquet files.

Pickled arrays are refused: reading them could run any code. Imports no torch.

Legend: N rows (images) of a file.
"""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_core.errors import FeatureFileError
from reid_core.evaluation.tables.feature_table import FeatureTable
from reid_core.evaluation.tables.label_columns import (
    COLUMNS,
    ColumnName,
    Role,
    as_label_column,
    choose_columns,
)
from reid_core.evaluation.tables.label_table import check_same_images, read_label_table

__all__ = ["read_feature_tables", "stored_bytes"]

_FORMATS = ".npz, .npy (with --labels) or .parquet"


def read_feature_tables(path: Path, labels: Path | None = None) -> list[FeatureTable]:
    """Read a file of features.

    Args:
        path: ``.npz``: arrays under the names of ``COLUMNS``, or two lists under those names with
            ``query_`` and ``gallery_`` (``q_``, ``g_``) before them. ``.npy``: the features, which
            are mapped, not read. ``.parquet``: columns of these names, features as lists, of lists
            where they are in parts.
        labels: CSV table of the labels, in the order of the features; needed for ``.npy``.

    Returns:
        One table; two (``role`` says which is which) where the arrays are prefixed.

    Raises:
        FeatureFileError: The file is missing, damaged, of another format, or its arrays do not go
            together; the message names file and array or row.
    """
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise FeatureFileError(f"{path} {kind}; give a file of features, {_FORMATS}")
    readers: Mapping[str, Callable[[Path], list[FeatureTable]]] = {
        ".npz": _read_npz,
        ".npy": _read_npy,
        ".parquet": _read_parquet,
    }
    suffix = path.suffix.lower()
    if suffix not in readers:
        hint = ""
        if suffix in (".pt", ".pth", ".pkl", ".pickle", ".mat"):
            hint = "; save it with numpy.savez(file, features=..., pids=..., camids=...)"
        raise FeatureFileError(f"{path}: {suffix or 'no suffix'} is not read, but {_FORMATS}{hint}")
    if suffix == ".npy" and labels is None:
        raise FeatureFileError(
            f"{path} holds features alone; give their labels with --labels FILE.csv, a table with "
            "the columns path,pid,camid[,clothes_id,modality,split]"
        )
    try:
        tables = readers[suffix](path)
    except OSError as error:
        raise FeatureFileError(f"cannot read {path}: {error.strerror or error}") from error
    if labels is not None:
        tables = [_with_labels(_single(tables, path, labels), labels)]
    for table in tables:
        _check_shapes(table)
    return tables


def stored_bytes(path: Path) -> int:
    """Return the memory that reading a file takes; 0 for files that are mapped or not there."""
    try:
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                return sum(entry.file_size for entry in archive.infolist())
        # The table as it is in the file, decoded, and as arrays.
        return 3 * path.stat().st_size if path.suffix.lower() == ".parquet" else 0
    except (OSError, zipfile.BadZipFile):
        return 0  # reading it says what is wrong


def _read_npz(path: Path) -> list[FeatureTable]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            known = _known_columns(names, path, "array")
            arrays = {name: _load_array(archive, name, path) for name in known}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise FeatureFileError(
            f"{path} is no .npz archive of arrays ({error}); write one with numpy.savez"
        ) from error
    roles: dict[Role, dict[str, npt.NDArray[Any]]] = {}
    for name, found in known.items():
        roles.setdefault(found.role, {})[found.column] = arrays[name]
    if "" in roles and len(roles) > 1:
        plain = [name for name, found in known.items() if not found.role]
        raise FeatureFileError(
            f"{path} mixes arrays of query and gallery with arrays without such a prefix "
            f"({', '.join(plain)}); prefix all or none"
        )
    notes = _unused(names, known, "arrays")
    return [
        _table(path, columns, role=role, notes=notes if index == 0 else ())
        for index, (role, columns) in enumerate(sorted(roles.items(), reverse=True))
    ]


def _load_array(archive: Any, name: str, path: Path) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = archive[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise FeatureFileError(
            f"{path}: the array {name!r} holds Python objects, which are not loaded because that "
            "could run any code; save numbers as numbers and text as numpy.array(list_of_text)"
        ) from error
    return array


def _read_npy(path: Path) -> list[FeatureTable]:
    try:
        # Read-only: a private writable map would count against the memory that may be promised.
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        reason = "it holds Python objects" if "objects" in str(error).lower() else str(error)
        raise FeatureFileError(
            f"{path} is no .npy file of numbers ({reason}); write one with numpy.save"
        ) from error
    if not isinstance(features, np.ndarray):
        raise FeatureFileError(f"{path} is an archive of arrays; rename it to .npz")
    return [FeatureTable(source=path, features=features, columns={}, is_mapped=True)]


def _read_parquet(path: Path) -> list[FeatureTable]:
    if importlib.util.find_spec("pyarrow") is None:
        raise FeatureFileError(
            f'reading {path} needs pyarrow; pip install "reid-core[parquet]", or save .npz'
        )
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        known = _known_columns(names, path, "column")
        table = file.read(columns=list(known))
    except pa.ArrowException as error:
        raise FeatureFileError(f"{path} is no parquet file that can be read: {error}") from error
    prefixed = [name for name, found in known.items() if found.role]
    if prefixed:
        raise FeatureFileError(
            f"{path}: a table holds one row per image; put query and gallery below each other with "
            f"a column split, in place of {', '.join(prefixed)}"
        )
    columns = {
        found.column: _parquet_column(table.column(name), found.column, path)
        for name, found in known.items()
    }
    return [_table(path, columns, notes=_unused(names, known, "columns"))]


def _parquet_column(column: Any, name: str, path: Path) -> npt.NDArray[Any]:
    import pyarrow as pa

    if column.null_count:
        if name != "clothes_id":
            row = next(index for index, value in enumerate(column) if not value.is_valid)
            raise FeatureFileError(f"{path}: {name} is empty in row {row}")
        column = column.fill_null("-1" if pa.types.is_string(column.type) else -1)
    if name != "features":
        values: npt.NDArray[Any] = column.to_numpy()
        return values.astype(str) if values.dtype == object else values
    if not (pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)):
        raise FeatureFileError(f"{path}: {name} is {column.type}; a list of numbers is expected")
    array, shape = column.combine_chunks(), [len(column)]
    while pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type):
        lengths = array.value_lengths().to_numpy()
        if len(lengths) and (lengths != lengths[0]).any():
            odd = int(np.flatnonzero(lengths != lengths[0])[0])
            place = f"{path}: row {odd * len(column) // len(lengths)} has"
            raise FeatureFileError(f"{place} {lengths[odd]} features, row 0 has {lengths[0]}")
        shape.append(int(lengths[0]) if len(lengths) else 0)
        array = array.flatten()
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(shape)


def _known_columns(names: Sequence[str], path: Path, what: str) -> dict[str, ColumnName]:
    """Return what the arrays hold that are known by name.

    Raises:
        FeatureFileError: Two arrays hold the same, or there are no features.
    """
    known = {names[index]: found for index, found in choose_columns(names, path, what).items()}
    if not any(found.column == "features" for found in known.values()):
        raise FeatureFileError(
            f"{path} has no {what} 'features' (it has: {', '.join(names) or 'nothing'}); accepted "
            f"for it: features, {', '.join(COLUMNS['features'])}, or query_ and gallery_ before "
            "one of them"
        )
    return known


def _unused(names: Sequence[str], known: Mapping[str, Any], what: str) -> tuple[str, ...]:
    unused = [name for name in names if name not in known]
    return (f"{what} not used: {', '.join(unused)}",) if unused else ()


def _table(
    path: Path,
    columns: Mapping[str, npt.NDArray[Any]],
    *,
    role: Role = "",
    notes: tuple[str, ...] = (),
) -> FeatureTable:
    if "features" not in columns:
        raise FeatureFileError(f"{path} has labels of the {role}, but no {role}_features")
    labels = {name: _flat(values) for name, values in columns.items() if name != "features"}
    features = columns["features"]
    for name, values in labels.items():
        if values.shape != features.shape[:1]:
            raise FeatureFileError(
                f"{path}: {role + ' ' if role else ''}{name} has shape {values.shape} but features "
                f"have shape {features.shape}; both must list the same images in the same order"
            )
    try:
        columns = {
            name: as_label_column(values, name, lambda row: f"row {row}")
            for name, values in labels.items()
        }
    except FeatureFileError as error:
        raise FeatureFileError(f"{path}: {error}") from error
    return FeatureTable(source=path, features=features, columns=columns, role=role, notes=notes)


def _flat(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (N, 1) and (1, N), as MATLAB has vectors, as (N,)."""
    return values.reshape(-1) if values.ndim == 2 and 1 in values.shape else values


def _single(tables: Sequence[FeatureTable], path: Path, labels: Path) -> FeatureTable:
    if len(tables) > 1:
        raise FeatureFileError(
            f"{path} holds two lists of images (query and gallery), so that {labels} cannot be the "
            "labels of its rows; leave --labels out, or save the lists as two files"
        )
    return tables[0]


def _with_labels(table: FeatureTable, labels: Path) -> FeatureTable:
    found = read_label_table(labels)
    if len(found.lines) != len(table):
        raise FeatureFileError(
            f"{table.source} has {len(table):,} rows of features but {labels} {len(found.lines):,} "
            "rows of labels; both must list the same images in the same order"
        )
    own = tuple(table.columns)
    if "path" in own and "path" in found.columns:
        check_same_images(table.source, table.columns["path"], labels, found.columns["path"])
    notes = (f"labels in {table.source} not used: {', '.join(own)}",) if own else ()
    return replace(
        table,
        columns=found.columns,
        lines=found.lines,
        labels_source=labels,
        root=labels.parent,
        notes=(*table.notes, *found.notes, *notes),
    )


def _check_shapes(table: FeatureTable) -> None:
    features = table.features
    if features.dtype.kind not in "fiu":
        raise FeatureFileError(
            f"{table.source}: features are {features.dtype}; floating point numbers are expected"
        )
    if features.ndim not in (2, 3) or 0 in features.shape[1:]:
        raise FeatureFileError(
            f"{table.source}: features have shape {features.shape}; (images, D) is expected, or "
            "(images, D, parts)"
        )
    if not len(features):
        raise FeatureFileError(f"{table.source} holds no rows")
    if "pid" not in table.columns:
        raise FeatureFileError(
            f"{table.labels_source or table.source} has no pid; identities are needed whatever the "
            f"protocol. Accepted names: pid, {', '.join(COLUMNS['pid'])}"
        )
