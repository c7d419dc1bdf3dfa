"""From the ledger to the rows of a table: means and spreads beside the published figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matrix.ledger import Record
from matrix.schema import Matrix, MatrixDataset, Row
from reid_core.rounding import one_decimal

__all__ = ["Figure", "ResultLine", "Spread", "summarise"]

_SHOWN = ("rank1", "mAP")


@dataclass(frozen=True)
class Spread:
    """Values in percent.

    Attributes:
        mean: Their mean.
        std: Standard deviation (divisor: number less one); None where there is one value.
        count: How many there are.
    """

    mean: float
    std: float | None
    count: int

    @classmethod
    def of(cls, fractions: Sequence[float]) -> Spread | None:
        """Return the spread of fractions; None for none of them."""
        if not fractions:
            return None
        percent = [100 * value for value in fractions]
        std = statistics.stdev(percent) if len(percent) > 1 else None
        return cls(statistics.fmean(percent), std, len(percent))

    def __str__(self) -> str:
        mean = one_decimal(self.mean)
        return mean if self.std is None else f"{mean} +- {one_decimal(self.std)}"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of a line.

    Attributes:
        last: Of the last epoch; None where no run has it.
        best: Of the epoch that was best on the TEST set.
        published: In percent, as printed; None where nothing is published.
        certainty: Of the published figure; empty where nothing is said.
        difference: Last epoch less published, in percent points; None where they do not compare:
            one is missing, or the images are synthetic.
    """

    last: Spread | None
    best: Spread | None
    published: float | None
    certainty: str
    difference: float | None


@dataclass(frozen=True, kw_only=True)
class ResultLine:
    """One row of the matrix under one protocol, with one preset.

    Attributes:
        dataset: The data set.
        row: The row.
        preset: Preset, with the options that were passed on.
        protocol: Protocol.
        synthetic: Whether the images are generated.
        records: The runs; the last one of every seed and trial.
        figures: Name to figure: ``rank1``, ``mAP``, and what else is published.
        source: Of the published figures; empty where there are none.
    """

    dataset: MatrixDataset
    row: Row
    preset: str
    protocol: str
    synthetic: bool
    records: Sequence[Record]
    figures: Mapping[str, Figure]
    source: str

    @property
    def kind(self) -> str:
        """``SYNTHETIC`` or ``real``; stands in every row of every table."""
        return "SYNTHETIC" if self.synthetic else "real"

    @property
    def notes(self) -> list[str]:
        """What to keep in mind when this line is compared."""
        notes = []
        commits = {record.get("commit") for record in self.records}
        if len(commits) > 1:
            notes.append(f"runs of {len(commits)} commits")
        if any(record.get("dirty") for record in self.records):
            notes.append("sources with changes that are not committed")
        by_trial: dict[object, set[object]] = {}
        for record in self.records:
            by_trial.setdefault(record.get("trial"), set()).add(record.get("fingerprint"))
        if any(len(found) > 1 for found in by_trial.values()):
            notes.append("runs on different copies of the data set")
        return notes


def summarise(
    matrix: Matrix, records: Sequence[Record], *, synthetic: bool, datasets: Sequence[str] = ()
) -> list[ResultLine]:
    """Return the lines of the table, in the order of the matrix.

    Records of rows that the matrix no longer has are left out.

    Args:
        matrix: The matrix.
        records: Of the ledger; real and synthetic ones.
        synthetic: Which of them to take.
        datasets: Data sets to show; default: all.
    """
    groups: dict[tuple[str, str], dict[str, dict[tuple[int, int | None], Record]]] = {}
    for record in records:
        if record["synthetic"] is not synthetic:
            continue
        preset = " ".join([record["preset"], *record["overrides"]])
        runs = groups.setdefault((record["dataset"], record["row"]), {}).setdefault(preset, {})
        key = (record["seed"], record["trial"])
        runs.pop(key, None)  # a later run of the same cell takes its place
        runs[key] = record
    lines = []
    for name, dataset in matrix.datasets.items():
        if datasets and name not in datasets:
            continue
        for row in matrix.rows_of(name):
            for preset, runs in groups.get((name, row.name), {}).items():
                ordered = [runs[key] for key in sorted(runs, key=lambda key: (key[0], key[1] or 0))]
                lines += [
                    _make_line(dataset, row, preset, protocol, ordered, synthetic=synthetic)
                    for protocol in dataset.protocols
                ]
    return lines


def _make_line(
    dataset: MatrixDataset,
    row: Row,
    preset: str,
    protocol: str,
    records: Sequence[Record],
    *,
    synthetic: bool,
) -> ResultLine:
    published = row.published.get(protocol, {})
    figures = {}
    for name in dict.fromkeys([*_SHOWN, *published]):
        last = Spread.of(_values([record["last_epoch"] for record in records], protocol, name))
        best = [record["best_on_test"]["results"] for record in records]
        value = published.get(name)
        comparable = last is not None and value is not None and not synthetic
        figures[name] = Figure(
            last=last,
            best=Spread.of(_values(best, protocol, name)),
            published=value,
            certainty=row.certainty.get(protocol, {}).get(name, ""),
            difference=last.mean - value if comparable and last and value is not None else None,
        )
    return ResultLine(
        dataset=dataset,
        row=row,
        preset=preset,
        protocol=protocol,
        synthetic=synthetic,
        records=records,
        figures=figures,
        source=row.sources.get(protocol, "") if published else "",
    )


def _values(
    results: Sequence[Mapping[str, Mapping[str, float]]], protocol: str, name: str
) -> list[float]:
    return [found[protocol][name] for found in results if name in found.get(protocol, {})]
