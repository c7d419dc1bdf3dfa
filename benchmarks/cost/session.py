"""A benchmark from its arguments to its files; ``evaluation.py`` and ``reranking.py`` share it."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np

from cost.fresh_process import Spec, in_fresh_process
from cost.problem import OURS, PRODUCT, Contestant
from cost.reporting import explanation, plot, sweep_table, table
from cost.rounds import Row, Task, machine, merge, read_rows, run_rounds, say, write_rows
from cost.synthetic_features import Size, shrunk, write_features
from reid_core.evaluation import Match

__all__ = ["Benchmark", "Case", "run"]

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A size, a match rule, and where the gallery's features lie.

    Attributes:
        sweep: Whether it is a point of the plot rather than a line of the table.
    """

    size: Size
    match: Match = "standard"
    mapped: bool = False
    sweep: bool = False

    @property
    def title(self) -> str:
        """What the table calls it."""
        rule = "" if self.match == "standard" else f", {self.match.replace('_', '-')}"
        return f"{self.size.title}{rule}{', memory-mapped' if self.mapped else ''}"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What is compared with what.

    Attributes:
        name: Of the benchmark and its files.
        title: Heading of the report.
        product: What the product alone is.
        cases: By what ``--sizes`` calls them.
        contestants: In the order of their turns; ours is among them.
        parts: Whether a contestant with too many cells gets a part of the queries; else it is left
            out.
        tolerance: Largest difference of a contestant's mAP from ours.
    """

    name: Literal["evaluation", "reranking"]
    title: str
    product: str
    cases: Mapping[str, Sequence[Case]]
    contestants: Sequence[Contestant]
    parts: bool
    tolerance: float

    def num_queries(self, contestant: Contestant, size: Size) -> int:
        """Return how many queries a contestant is asked for; 0 where it is left out."""
        if contestant.max_cells is None:
            return size.num_queries
        if self.parts:
            return min(size.num_queries, max(8, contestant.max_cells // size.num_gallery))
        num_images = size.num_queries + size.num_gallery
        return size.num_queries if num_images**2 <= contestant.max_cells else 0


def run(benchmark: Benchmark, argv: Sequence[str], description: str) -> int:
    """Measure what the arguments ask for and report it.

    Returns:
        The exit status: 1 if a contestant failed or found another mAP than ours.
    """
    options = parse(benchmark, argv, description)
    missing = [one.name for one in benchmark.contestants if not one.installed]
    if missing:
        say(f"not installed, left out: {', '.join(missing)}")
    found = read_rows(options.out.with_suffix(".json")) if options.keep else []
    rows: list[Row] = []
    text = ""
    chosen = (case for name in options.sizes for case in benchmark.cases[name])
    for size, cases in groupby(chosen, key=lambda case: case.size):
        small = shrunk(size, options.shrink)
        rows += measure_size(benchmark, [replace(case, size=small) for case in cases], options)
        # After every size, so that what was measured outlives an interruption.
        text = save(benchmark, merge(found, rows), options.out, missing)
    print(text)
    sound = [is_repeatable(rows, case) for case in dict.fromkeys(row.case for row in rows)]
    return int(not all(sound) or any(row.error or row.agrees is False for row in rows))


def save(benchmark: Benchmark, rows: Sequence[Row], out: Path, missing: Sequence[str]) -> str:
    """Write the rows, the report and the plot; return the report."""
    write_rows(out.with_suffix(".json"), rows)
    text = as_markdown(benchmark, rows, missing)
    out.with_suffix(".md").write_text(text, encoding="utf-8")
    points = points_of(rows)
    if points:
        plot(out.with_suffix(".svg"), points)
    return text


def parse(benchmark: Benchmark, argv: Sequence[str], description: str) -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=description)
    names = list(benchmark.cases)
    contestants = [PRODUCT, *(one.name for one in benchmark.contestants)]
    parser.add_argument(
        "--sizes",
        type=lambda text: text.split(","),
        default=names,
        help=f"of {', '.join(names)} (default: all)",
    )
    parser.add_argument(
        "--threads",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[1, 2],
        help="numbers of threads (default: 1,2); a sweep takes the first",
    )
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    if benchmark.name == "evaluation":
        parser.add_argument(
            "--precision",
            choices=("auto", "fp32", "tf32", "bf16"),
            default="auto",
            help="of the engine's fast products; on cuda of the product alone, too (auto: fp32)",
        )
    else:
        parser.set_defaults(precision="auto")
    parser.add_argument(
        "--contestants",
        type=lambda text: text.split(","),
        default=contestants,
        help=f"of {', '.join(contestants)} (default: all that are installed)",
    )
    parser.add_argument("--keep", action="store_true", help="keep the other rows of --out")
    parser.add_argument(
        "--out", type=Path, help=f"default: benchmarks/results/{benchmark.name}-<device>"
    )
    parser.add_argument("--folder", type=Path, help="for features meanwhile (4 GB at most)")
    parser.add_argument("--shrink", type=int, default=1, help="make sizes this many times smaller")
    options = parser.parse_args(argv)
    for given, known in ((options.sizes, names), (options.contestants, contestants)):
        unknown = [name for name in given if name not in known]
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
    for name, least in (
        ("rounds", options.rounds),
        ("shrink", options.shrink),
        ("threads", min(options.threads)),
    ):
        if least < 1:
            parser.error(f"--{name} {least} must be at least 1")
    if options.out is None:
        options.out = RESULTS / f"{benchmark.name}-{options.device}"
    return options


def measure_size(
    benchmark: Benchmark, cases: Sequence[Case], options: argparse.Namespace
) -> list[Row]:
    """Measure all contestants on the features of one size."""
    size, rows = cases[0].size, []
    with tempfile.TemporaryDirectory(prefix="reid-benchmark-", dir=options.folder) as text:
        folder = Path(text)
        say(f"writing synthetic features: {size.title}, {size.shape}")
        write_features(folder, size)
        (folder / "small").mkdir()
        small = replace(size, num_queries=64, num_gallery=512, num_pids=32)
        write_features(folder / "small", small)
        for threads in options.threads[:1] if cases[0].sweep else options.threads:
            spec = Spec(
                benchmark=benchmark.name,
                folder=text,
                threads=threads,
                device=options.device,
                precision=options.precision,
                num_queries=size.num_queries,
            )
            found: dict[str, float] = in_fresh_process(spec)
            say("product alone: " + ", ".join(f"{way} {found[way]:.3f} s" for way in found))
            spec = replace(spec, product=min(found, key=found.__getitem__))
            tasks = plan(benchmark, cases, spec, options)
            results = run_rounds(tasks, options.rounds)
            rows += [compare(benchmark, task.spec, *result) for task, result in results]
    return rows


def plan(
    benchmark: Benchmark, cases: Sequence[Case], spec: Spec, options: argparse.Namespace
) -> list[Task]:
    """Return what is to be measured in each round, in order."""
    tasks = []
    for case in cases:
        size = case.size
        turns = [(PRODUCT, benchmark.product, size.num_queries)]
        # The product beside a mapped gallery is that of features in memory.
        turns = turns if PRODUCT in options.contestants and not case.mapped else []
        turns += [
            (one.name, one.does, benchmark.num_queries(one, size))
            for one in benchmark.contestants
            if one.installed
            and one.name in options.contestants
            and case.match in one.matches
            and options.device in one.devices
            and (one.mapped or not case.mapped)
        ]
        for name, does, num_queries in turns:
            if not num_queries:
                say(f"{case.title}: too large for {name}, left out")
                continue
            row = Row(
                case=case.title,
                contestant=name,
                does=does,
                threads=spec.threads,
                device=spec.device,
                precision=spec.precision,
                num_queries=num_queries,
                of_queries=size.num_queries,
                num_gallery=size.num_gallery,
                dim=size.dim,
                product=spec.product,
                rounds=options.rounds,
                machine=machine(spec.device),
                sweep=case.sweep,
            )
            told = replace(
                spec,
                contestant=name,
                num_queries=num_queries,
                match=case.match,
                mapped=case.mapped,
            )
            tasks.append(Task(row, told))
    return tasks


def compare(benchmark: Benchmark, spec: Spec, row: Row, found: Sequence[float]) -> Row:
    """Tell whether the mAP of all rounds is that of our engine on the same queries."""
    contestant = next((one for one in benchmark.contestants if one.name == row.contestant), None)
    path = Path(spec.folder) / f"{spec.match}.npy"
    if not found or contestant is None or not contestant.same_definition or not path.is_file():
        return row
    ours = float(np.nanmean(np.load(path)[: row.num_queries]))
    worst = max(found, key=lambda value: abs(value - ours))
    agrees = abs(worst - ours) <= benchmark.tolerance
    if not agrees:
        say(f"{row.case}: {row.contestant} finds mAP {worst:.8f}, {OURS} {ours:.8f}")
    return replace(row, agrees=agrees)


def is_repeatable(rows: Sequence[Row], case: str) -> bool:
    """Tell whether our mAP is the same to the last bit for all numbers of threads."""
    found = {row.mean_ap for row in rows if row.case == case and row.contestant == OURS}
    if len(found) > 1:
        say(f"{case}: {OURS} finds {' and '.join(sorted(map(repr, found)))}")
    return len(found) <= 1


def points_of(rows: Sequence[Row]) -> list[Row]:
    """Return the points of the plot, those with the fewest threads."""
    points = [row for row in rows if row.sweep]
    fewest = min((row.threads for row in points), default=0)
    return [row for row in points if row.threads == fewest]


def as_markdown(benchmark: Benchmark, rows: Sequence[Row], missing: Sequence[str]) -> str:
    """Return the tables and what is to be known of them."""
    cases = [row for row in rows if not row.sweep]
    points = points_of(rows)
    parts = [f"# {benchmark.title}", explanation(rows)]
    if missing:
        parts.append(f"Not installed when this was written: {', '.join(missing)}.")
    if cases:
        parts.append(table(cases))
    if points:
        parts.append(sweep_table(points))
    return "\n\n".join(parts) + "\n"
