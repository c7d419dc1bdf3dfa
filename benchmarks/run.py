"""Run the methods of one data set through their public commands and print one table.

A plain baseline, which is no package, takes part through the script beside this one.

    python benchmarks/run.py ltcc --data ROOT [--methods aim] [--seeds 3] [--preset paper]

A data set that has several divisions into training and test people (RegDB: 10 trials) is trained
once per division, as its published figures are means over all of them.

Started by ``nox -s benchmark-ltcc -- --data ROOT``. Uses the installed commands only, so that what
is measured is what users get. Each run leaves its folder below ``--out``; a finished run is not
repeated, so an interrupted benchmark continues where it was. The results go to
``benchmarks/results/<dataset>[-synthetic].json``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
Record = dict[str, Any]

SHOWN = ("rank1", "mAP")


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return the exit status."""
    matrix = tomllib.loads((HERE / "matrix.toml").read_text(encoding="utf-8"))
    options = parse(argv, matrix)
    if options.data is None:
        return explain_missing_data(options.dataset)
    rows = [row for row in matrix["rows"] if row["dataset"] == options.dataset]
    if options.methods:
        rows = [row for row in rows if row["method"] in options.methods]
    synthetic = options.data.partition(":")[0] == "synthetic"
    if not synthetic:
        rows = leave_out_unready(rows, options.overrides)
        stats = ["reid-data", "stats", "--data", options.data, "--dataset", options.dataset]
        if not rows or subprocess.run(stats).returncode:
            return 2
    seeds, trials = range(1, options.seeds + 1), choose_trials(options, matrix, synthetic)
    records = []
    for row in rows:
        for seed, trial in product(seeds, trials):
            record = run_cell(row, seed, trial, options, synthetic)
            if record is None:
                return 1
            records.append(record)
    name = f"{options.dataset}{'-synthetic' if synthetic else ''}.json"
    results = options.results / name
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    print_table(matrix["datasets"][options.dataset], rows, records, synthetic)
    print(f"\nRecords: {os.path.relpath(results)}")
    return 0


def parse(argv: Sequence[str], matrix: Mapping[str, Any]) -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(
        prog="benchmark", description="Run every method that has a row for a data set."
    )
    parser.add_argument("dataset", choices=sorted(matrix["datasets"]))
    parser.add_argument("--data", help="the data set's folder or its parent, or `synthetic`")
    parser.add_argument("--methods", type=lambda text: text.split(","), help="e.g. aim,cssc")
    parser.add_argument("--seeds", type=int, default=1, help="runs per method (default: 1)")
    parser.add_argument(
        "--trials",
        type=int,
        help="divisions of a data set that has several (default: all; 1 if synthetic)",
    )
    parser.add_argument("--preset", help="paper or demo; default: paper (demo if synthetic)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), help="run folders")
    parser.add_argument(
        "--results", type=Path, default=HERE / "results", help="folder of the records"
    )
    options, overrides = parser.parse_known_args(argv)
    options.overrides = overrides
    known = {row["method"] for row in matrix["rows"] if row["dataset"] == options.dataset}
    unknown = set(options.methods or ()) - known
    if unknown:
        parser.error(
            f"no row for {', '.join(sorted(unknown))} on {options.dataset}; "
            f"choose from {', '.join(sorted(known))}"
        )
    if options.seeds < 1:
        parser.error(f"--seeds {options.seeds} must be at least 1")
    most = matrix["datasets"][options.dataset].get("trials", 1)
    if options.trials is not None and not 1 <= options.trials <= most:
        parser.error(f"--trials {options.trials} must lie in 1..{most} for {options.dataset}")
    return options


def leave_out_unready(
    rows: Sequence[Mapping[str, Any]], overrides: Sequence[str]
) -> list[Mapping[str, Any]]:
    """Return the rows that have what they need beside the images; say which have not."""
    given = {option.partition("=")[0] for option in overrides}
    ready = [row for row in rows if row.get("needs") in {None, *given}]
    for row in rows:
        if row not in ready:
            print(f"{name_row(row)} is left out: it needs {row['needs']} P; {row['made_by']}")
    return ready


def choose_trials(
    options: argparse.Namespace, matrix: Mapping[str, Any], synthetic: bool
) -> Sequence[int | None]:
    """Return the divisions to train on, from 1; a None for a data set without."""
    most = matrix["datasets"][options.dataset].get("trials")
    if most is None:
        return [None]
    return range(1, (options.trials or (1 if synthetic else most)) + 1)


def explain_missing_data(dataset: str) -> int:
    """Say where to get the data set, where to put it and how to run without it."""
    print(f"This benchmark needs the images of {dataset.upper()}, which are not ours to give out.")
    print("ROOT is any folder of your choice:\n", flush=True)
    subprocess.run(["reid-data", "list", dataset], check=True)
    session = f"nox -s benchmark-{dataset.replace('_', '-')}"
    print(f"Then:        {session} -- --data ROOT")
    print(f"Without it:  {session} -- --data synthetic   (about 10 minutes)")
    print("             the same session on generated people; its figures say nothing of real ones")
    return 2


def run_cell(
    row: Mapping[str, Any],
    seed: int,
    trial: int | None,
    options: argparse.Namespace,
    synthetic: bool,
) -> Record | None:
    """Train and evaluate one method once, unless that was done before."""
    method, dataset = row["method"], row["dataset"]
    preset = options.preset or ("demo" if synthetic else row["preset"])
    kind = "synthetic" if synthetic else "real"
    suffix = "" if trial is None else f"-trial{trial}"
    folder = options.out / f"{dataset}-{kind}" / f"{name_row(row)}-{preset}-seed{seed}{suffix}"
    results = folder / "results.json"
    if not results.is_file():
        command = training_command(row)
        if (folder / "config.json").is_file():
            command += ["--resume", str(folder)]
        else:
            command += ["--data", options.data, "--seed", str(seed)]
            command += ["--dataset", dataset, "--preset", preset, "--out", str(folder)]
            command += row.get("flags", [])
            command += [] if trial is None else ["--data.trial", str(trial)]
        print(f"$ {shlex.join([*command, *options.overrides])}", flush=True)
        if subprocess.run([*command, *options.overrides]).returncode:
            print(f"{method} failed; see the message above", file=sys.stderr)
            return None
    record: Record = json.loads(results.read_text(encoding="utf-8"))
    cell = {
        "method": method,
        "row": name_row(row),
        "dataset": dataset,
        "preset": preset,
        "seed": seed,
        "trial": trial,
    }
    return {**cell, **record}


def name_row(row: Mapping[str, Any]) -> str:
    """Return what tells a row from the others of its data set: the method, or its own name."""
    name: str = row.get("name", row["method"])
    return name


def training_command(row: Mapping[str, Any]) -> list[str]:
    """Return the command of a method, or the script that a row names instead."""
    if "script" in row:
        return [sys.executable, str(HERE / row["script"])]
    return [f"{row['method']}-train"]


def print_table(
    dataset: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    records: Sequence[Record],
    synthetic: bool,
) -> None:
    """Print mean +- standard deviation over seeds and trials beside the published figures."""
    note = "SYNTHETIC DATA, not comparable with the published rows" if synthetic else "percent"
    table = Table(title=f"{dataset['title']} ({note})", title_justify="left")
    for name in ("method", "protocol", "rank-1", "mAP", "published rank-1", "published mAP"):
        table.add_column(name, justify="left" if name in ("method", "protocol") else "right")
    for row in rows:
        found = [record for record in records if record["row"] == name_row(row)]
        for protocol in dataset["protocols"]:
            published = row.get("published", {}).get(protocol)
            scores = [record["results"][protocol] for record in found]
            table.add_row(
                name_row(row),
                protocol,
                *(spread([score[name] for score in scores]) for name in SHOWN),
                *("-" if published is None else f"{published[name]:.1f}" for name in SHOWN),
            )
    console = Console()
    console.width = max(console.width, 110)
    console.print(table)


def spread(fractions: Sequence[float]) -> str:
    """Format fractions as percent: the mean, and the standard deviation where there are several."""
    percent = [100 * value for value in fractions]
    mean = statistics.fmean(percent)
    return f"{mean:.1f}" if len(percent) < 2 else f"{mean:.1f} +- {statistics.stdev(percent):.1f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
