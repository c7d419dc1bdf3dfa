"""What ``matrix.toml`` says, checked while it is read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reid_core.data.naming import dataset_title
from reid_core.errors import ConfigError

__all__ = ["CERTAINTIES", "Matrix", "MatrixDataset", "Row", "read_matrix"]

CERTAINTIES = ("confirmed", "believed", "unsure")
"""What may be said of a published figure: found in a public source, or from memory of one."""

_NOT_MEASURED = "not measured yet"
_FIGURE = re.compile(r"rank[0-9]+|mAP|mINP")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")

Table = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class MatrixDataset:
    """A data set of the matrix.

    Attributes:
        name: As ``--dataset`` takes it, e.g. ``ltcc``.
        protocols: Protocols that are reported, in the order of the table.
        trials: Divisions into training and test people; None where there is a single one.
    """

    name: str
    protocols: tuple[str, ...]
    trials: int | None = None

    @property
    def title(self) -> str:
        """What people call it."""
        return dataset_title(self.name)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method, in one variant, on one data set.

    Attributes:
        method: The method, whose command is ``<method>-train``.
        dataset: Name of the data set.
        name: What tells it from the other rows of its data set; the method where there is one.
        preset: Preset with the published settings.
        flags: Options of the variant.
        script: Script beside ``matrix.toml`` that trains in place of a command; None for none.
        needs: Option without which it cannot run on real data, e.g. ``--data.prepared``; no other
            row gets it. None where it needs none.
        made_by: Command that makes what the option names.
        gpu_hours: Expected time of one run on one GPU; None where it was not measured.
        published: Protocol to figure to percent, as printed in the source.
        sources: Protocol to the source of its figures.
        certainty: Protocol to figure to how sure it is; no entry where nothing is said.
    """

    method: str
    dataset: str
    name: str
    preset: str
    flags: tuple[str, ...] = ()
    script: str | None = None
    needs: str | None = None
    made_by: str | None = None
    gpu_hours: float | None = None
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    certainty: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """The whole matrix.

    Attributes:
        datasets: Name to data set, in the order of the file.
        rows: The rows, in the order of the file.
    """

    datasets: Mapping[str, MatrixDataset]
    rows: tuple[Row, ...]

    def rows_of(self, dataset: str) -> list[Row]:
        """Return the rows of one data set, in the order of the file."""
        return [row for row in self.rows if row.dataset == dataset]


def read_matrix(path: Path) -> Matrix:
    """Read and check a matrix.

    Args:
        path: The file; scripts that its rows name lie beside it.

    Raises:
        ConfigError: When the file is missing or wrong; all that is wrong is named.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    problems: list[str] = []
    _check_keys(values, "the file", ("datasets", "rows"), (), problems)
    datasets = _read_datasets(values.get("datasets", {}), problems)
    rows = _read_rows(values.get("rows", []), datasets, path.parent, problems)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(f"{path} is wrong:\n{listed}")
    return Matrix(datasets=datasets, rows=tuple(rows))


def _read_datasets(tables: Any, problems: list[str]) -> dict[str, MatrixDataset]:
    datasets = {}
    for name, table in tables.items() if isinstance(tables, dict) else ():
        where = f"datasets.{name}"
        if not _check_keys(table, where, ("protocols",), ("trials",), problems):
            continue
        protocols, trials = table["protocols"], table.get("trials")
        if not _is_texts(protocols) or not protocols:
            problems.append(f"{where}: protocols={protocols!r} must be a list of names")
            continue
        foreign = [item for item in protocols if not item.startswith(f"{name}/")]
        if foreign:
            problems.append(f"{where}: {', '.join(foreign)} must begin with {name}/")
        if trials is not None and (not _is_whole(trials) or trials < 2):
            problems.append(f"{where}: trials={trials!r} must be a number above 1, or be left out")
            trials = None
        datasets[name] = MatrixDataset(name=name, protocols=tuple(protocols), trials=trials)
    return datasets


def _read_rows(
    tables: Any, datasets: Mapping[str, MatrixDataset], folder: Path, problems: list[str]
) -> list[Row]:
    rows: list[Row] = []
    seen: dict[tuple[str, str], int] = {}
    for number, table in enumerate(tables if isinstance(tables, list) else (), 1):
        shown = "?" if not isinstance(table, dict) else table
        where = f"row {number}"
        if isinstance(shown, dict) and {"method", "dataset"} <= set(shown):
            where += f" ({shown.get('name', shown['method'])} on {shown['dataset']})"
        row = _read_row(table, where, datasets, folder, problems)
        if row is None:
            continue
        key = (row.dataset, row.name)
        if key in seen:
            problems.append(f"{where}: the same as row {seen[key]}; give it a name of its own")
        seen.setdefault(key, number)
        rows.append(row)
    return rows


def _read_row(
    table: Any,
    where: str,
    datasets: Mapping[str, MatrixDataset],
    folder: Path,
    problems: list[str],
) -> Row | None:
    needed = ("method", "dataset", "preset", "gpu_hours")
    optional = ("name", "flags", "script", "needs", "made_by", "published", "certainty")
    if not _check_keys(table, where, needed, optional, problems):
        return None
    texts = {key: table[key] for key in ("method", "dataset", "preset", "name") if key in table}
    for key, value in texts.items():
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            problems.append(f"{where}: {key}={value!r} must be a name, e.g. 'aim'")
            return None
    if table["dataset"] not in datasets:
        known = ", ".join(datasets)
        problems.append(f"{where}: dataset {table['dataset']!r} is unknown; choose from {known}")
        return None
    flags, script, hours = table.get("flags", []), table.get("script"), table["gpu_hours"]
    if not _is_texts(flags):
        problems.append(f"{where}: flags={flags!r} must be a list of texts")
        return None
    if script is not None and not (isinstance(script, str) and (folder / script).is_file()):
        problems.append(f"{where}: script {script!r} is no file in {folder.name}")
    if hours != _NOT_MEASURED and not (_is_number(hours) and hours > 0):
        problems.append(f"{where}: gpu_hours={hours!r} must be hours, or {_NOT_MEASURED!r}")
    needs, made_by = table.get("needs"), table.get("made_by")
    if (needs, made_by) != (None, None) and not (
        isinstance(needs, str) and needs.startswith("--") and isinstance(made_by, str)
    ):
        problems.append(
            f"{where}: needs={needs!r} must be an option, e.g. '--data.prepared', and "
            f"made_by={made_by!r} the command that makes what it names"
        )
    published = dict(table.get("published", {}))
    source, sources = published.pop("source", None), published.pop("sources", {})
    protocols = datasets[table["dataset"]].protocols
    _check_figures(published, where, protocols, problems)
    if published and not isinstance(source, str):
        problems.append(f"{where}: published figures need a source")
    certainty = table.get("certainty", {})
    _check_certainty(certainty, where, published, problems)
    for protocol in sources:
        if protocol not in published:
            problems.append(f"{where}: published.sources names {protocol}, which has no figures")
    return Row(
        method=table["method"],
        dataset=table["dataset"],
        name=table.get("name", table["method"]),
        preset=table["preset"],
        flags=tuple(flags),
        script=script,
        needs=needs,
        made_by=made_by,
        gpu_hours=float(hours) if _is_number(hours) else None,
        published=published,
        sources={protocol: sources.get(protocol, source) for protocol in published},
        certainty=certainty,
    )


def _check_figures(
    published: Table, where: str, protocols: Sequence[str], problems: list[str]
) -> None:
    for protocol, figures in published.items():
        if protocol not in protocols:
            accepted = ", ".join(protocols)
            problems.append(f"{where}: protocol {protocol!r} is unknown; choose from {accepted}")
        if not isinstance(figures, dict) or not figures:
            problems.append(f"{where}: {protocol} needs figures, e.g. {{ rank1 = 40.6 }}")
            continue
        for name, value in figures.items():
            if not _FIGURE.fullmatch(name):
                problems.append(f"{where}: {protocol}: {name!r} is no figure; use rank1, mAP, mINP")
            elif not _is_number(value) or not 0 <= value <= 100:
                problems.append(f"{where}: {protocol}: {name}={value!r} must be percent, 0..100")


def _check_certainty(certainty: Any, where: str, published: Table, problems: list[str]) -> None:
    for protocol, figures in certainty.items():
        for name, value in figures.items():
            if name not in published.get(protocol, {}):
                problems.append(f"{where}: certainty of {protocol} {name}, which is not published")
            if value not in CERTAINTIES:
                accepted = ", ".join(CERTAINTIES)
                problems.append(
                    f"{where}: certainty of {protocol} {name} is {value!r}; use {accepted}"
                )


def _check_keys(
    table: Any,
    where: str,
    needed: Sequence[str],
    optional: Sequence[str],
    problems: list[str],
) -> bool:
    """Check the keys of a table; return whether it can be read further."""
    if not isinstance(table, dict):
        problems.append(f"{where} must be a table with {', '.join(needed)}")
        return False
    missing = [key for key in needed if key not in table]
    unknown = [key for key in table if key not in (*needed, *optional)]
    if missing:
        problems.append(f"{where}: {', '.join(missing)} missing")
    if unknown:
        accepted = ", ".join((*needed, *optional))
        problems.append(f"{where}: {', '.join(unknown)} unknown; choose from {accepted}")
    return not missing


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
