"""What pseudo labels cost: average linkage against libraries, the stage against a reference.

    python benchmarks/clustering.py [--sizes 2000,6000,12936] [--parts dendrogram,stage]

``dendrogram``: from re-ranked distances to K clusters, against scikit-learn's
AgglomerativeClustering, SciPy and fastcluster. ``stage``: from features to labels (distances of all
pairs, re-ranking, threshold, dendrogram, cut), against N x N arrays. In each round every contestant
runs once in turn, in a fresh process. What counts are ratios of time and of peak memory. Memory is
beyond what the process holds when everything is imported; the distances that a dendrogram is made
from are counted, in the form that a contestant takes, the features are not. The features are
synthetic. 30,248 is MSMT17's training set; only ours is measured there.

Needs scikit-learn (and fastcluster, if it is to be compared). Writes JSON and a Markdown table.
Ends with status 1 where a target is missed: a dendrogram in 0.4 of scikit-learn's time and half of
its memory, a stage in a third of the reference's time and memory, 30,248 images in 8 GB resident.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cost.clustering_contestants import CONTESTANTS, OURS, PARTS, ClusteringContestant, Part
from cost.clustering_once import ClusteringSpec
from cost.fresh_process import environment
from cost.rounds import machine, say
from cost.synthetic_features import Size, write_features

RESULTS = Path(__file__).parent / "results"

# Images per identity and per cluster asked for, about as Market-1501 has them (751 of 12,936; 800).
PER_IDENTITY, PER_CLUSTER = 17, 16

# The part, whom ours is compared with, the largest ratios of time and of memory.
TARGETS: dict[Part, tuple[str, float, float]] = {
    "dendrogram": ("scikit-learn", 0.4, 0.5),
    "stage": ("dense", 1 / 3, 1 / 3),
}
MAX_RESIDENT = 8e9


@dataclass(frozen=True, kw_only=True)
class Result:
    """One contestant on one size; times are medians over the rounds, memory the largest.

    Attributes:
        part: What was measured.
        num_images: N.
        contestant: Name.
        threads: Of products and of everything else.
        seconds: Of every round.
        memory: Bytes at the peak: distances that it was given included, not features, nor the
            process itself.
        resident: Bytes of the largest resident set of the whole process.
        agreement: Share of images whose cluster is ours to the last image.
        time_ratio: Median of our time over its, round by round; None for ours.
        memory_ratio: Our memory over its; None for ours.
        machine: Processor and versions.
    """

    part: Part
    num_images: int
    contestant: str
    threads: int
    seconds: tuple[float, ...]
    memory: int
    resident: int
    agreement: float | None
    machine: str
    time_ratio: float | None = None
    memory_ratio: float | None = None


def main(argv: Sequence[str]) -> int:
    """Run what the arguments say; returns the exit status."""
    options = parse(argv)
    results: list[Result] = []
    for num_images in options.sizes:
        with tempfile.TemporaryDirectory(prefix="reid-benchmark-", dir=options.folder) as folder:
            results += measure_size(Path(folder), num_images, options)
            save(options.out, results)
    print(as_markdown(results))
    missed = list(missed_targets(results))
    for text in missed:
        say(f"missed: {text}")
    return int(bool(missed))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description="What pseudo labels cost.")
    parser.add_argument(
        "--sizes",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[2_000, 6_000, 12_936],
        help="numbers of images (default: 2000,6000,12936)",
    )
    parser.add_argument(
        "--parts",
        type=lambda text: text.split(","),
        default=list(PARTS),
        help=f"of {', '.join(PARTS)} (default: all)",
    )
    names = list(dict.fromkeys(one.name for one in CONTESTANTS))
    parser.add_argument(
        "--contestants",
        type=lambda text: text.split(","),
        default=names,
        help=f"of {', '.join(names)} (default: all that are installed)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="numbers of threads (default: 1)")
    parser.add_argument("--out", type=Path, default=RESULTS / "clustering-cpu")
    parser.add_argument("--folder", type=Path, help="for features and distances (2 GB at most)")
    options = parser.parse_args(argv)
    for given, known in ((options.parts, PARTS), (options.contestants, names)):
        unknown = [name for name in given if name not in known]
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
    for name, least in (("sizes", min(options.sizes) // 300), ("rounds", options.rounds)):
        if least < 1:
            parser.error(f"--{name} is too small")
    return options


def measure_size(folder: Path, num_images: int, options: argparse.Namespace) -> list[Result]:
    """Measure all contestants on features of one size."""
    say(f"{num_images:,} images: writing synthetic features and their distances")
    for place, count in ((folder, num_images), (folder / "small", 300)):
        place.mkdir(exist_ok=True)
        write_features(place, size_of(count))
    spec = ClusteringSpec(folder=str(folder), threads=options.threads)
    if "dendrogram" in options.parts:
        in_fresh_process(spec)
    turns = [
        one
        for one in CONTESTANTS
        if one.part in options.parts
        and one.name in options.contestants
        and one.installed
        and num_images <= one.max_images
    ]
    answers: dict[ClusteringContestant, list[dict[str, Any]]] = {one: [] for one in turns}
    for number in range(options.rounds):
        for one in turns:
            told = replace(
                spec,
                part=one.part,
                contestant=one.name,
                num_clusters=num_images // PER_CLUSTER,
            )
            answer = in_fresh_process(told)
            answers[one].append(answer)
            say(
                f"{num_images:,}, round {number + 1}, {one.part}: {one.name} "
                f"{answer['seconds']:.2f} s, {answer['memory'] / 1e6:,.0f} MB beyond "
                f"{answer['distances'] / 1e6:,.0f} MB of distances"
            )
    found = [as_result(one, num_images, options.threads, answers[one]) for one in turns]
    return [compared(result, found) for result in found]


def size_of(num_images: int) -> Size:
    """Return what the features are drawn from: a gallery like Market-1501's training images."""
    return Size(
        name=str(num_images),
        title=f"{num_images:,} images",
        num_queries=8,
        num_gallery=num_images,
        dim=2048,
        num_pids=num_images // PER_IDENTITY,
        num_cameras=6,
        noise=1.25,
    )


def in_fresh_process(spec: ClusteringSpec) -> dict[str, Any]:
    """Return what ``cost.clustering_once`` answers."""
    answer = Path(spec.folder) / "answer.json"
    told = json.dumps(asdict(replace(spec, answer=str(answer))))
    subprocess.run(
        [sys.executable, "-m", "cost.clustering_once", told],
        env=environment(spec.threads, os.environ),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return found


def as_result(
    contestant: ClusteringContestant, num_images: int, threads: int, answers: list[dict[str, Any]]
) -> Result:
    """Sum the rounds up."""
    return Result(
        part=contestant.part,
        num_images=num_images,
        contestant=contestant.name,
        threads=threads,
        seconds=tuple(answer["seconds"] for answer in answers),
        memory=max((answer["memory"] or 0) + answer["distances"] for answer in answers),
        resident=max(answer["resident"] or 0 for answer in answers),
        agreement=answers[0]["agreement"],
        machine=machine("cpu"),
    )


def compared(result: Result, found: Sequence[Result]) -> Result:
    """Add the ratios of ours to it."""
    ours = [one for one in found if (one.part, one.contestant) == (result.part, OURS)]
    if result.contestant == OURS or not ours:
        return result
    pairs = zip(ours[0].seconds, result.seconds, strict=True)
    return replace(
        result,
        time_ratio=statistics.median(own / other for own, other in pairs),
        memory_ratio=ours[0].memory / result.memory,
    )


def missed_targets(results: Sequence[Result]) -> Iterator[str]:
    """Yield what is worse than it should be."""
    for result in results:
        where = f"{result.part} of {result.num_images:,} images, {result.contestant}"
        rival, time_limit, memory_limit = TARGETS[result.part]
        if result.contestant == rival:
            if (result.time_ratio or 0) > time_limit:
                yield f"{where}: {result.time_ratio:.2f} of its time, not {time_limit:.2f}"
            if (result.memory_ratio or 0) > memory_limit:
                yield f"{where}: {result.memory_ratio:.2f} of its memory, not {memory_limit:.2f}"
        if result.contestant == OURS and result.resident > MAX_RESIDENT:
            yield f"{where}: {result.resident / 1e9:.2f} GB resident"
        if result.agreement is not None and result.agreement < 0.99:
            yield f"{where}: only {result.agreement:.1%} of the images are in the same clusters"


def save(out: Path, results: Sequence[Result]) -> None:
    """Write results as JSON and as a table."""
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(result) for result in results], indent=2)
    out.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(as_markdown(results), encoding="utf-8")


def as_markdown(results: Sequence[Result]) -> str:
    """Return the table and what is to be known of it."""
    lines = [
        "# Cost of pseudo labels",
        "",
        "Synthetic features (D = 2048). Interleaved rounds in fresh processes, median times. "
        "Memory is the peak beyond the process and the features, given distances included; "
        "resident is the whole process. Ratios are ours to theirs (lower is better); same is the "
        "share of images whose cluster is ours, image for image.",
        "",
        *(f"Measured on {text}." for text in dict.fromkeys(one.machine for one in results)),
        "",
        *(f"- **{one.name}** ({one.part}): {one.does}" for one in CONTESTANTS if one.installed),
        "",
        "| part | images | contestant | seconds | memory | resident | time ratio | memory ratio "
        "| same |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one in results:
        ratios = ["-" if x is None else f"{x:.2f}" for x in (one.time_ratio, one.memory_ratio)]
        same = "-" if one.agreement is None else f"{one.agreement:.2%}"
        cells = [one.part, f"{one.num_images:,}", one.contestant]
        cells += [f"{statistics.median(one.seconds):.2f}", f"{one.memory / 1e6:,.0f} MB"]
        cells += [f"{one.resident / 1e9:.2f} GB", *ratios, same]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
