"""The command ``reid-data``: list, synthesize, check and stats."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import tyro

from reid_core.cli import run_command
from reid_core.data.readers import (
    CSV_LAYOUT,
    DATASET_NAMES,
    FOLDER_LAYOUT,
    READERS,
    DatasetInfo,
    find_dataset,
    read_dataset,
)
from reid_core.errors import ConfigError
from reid_core.memory import MemoryPlan

__all__ = ["main"]

_PROG = "reid-data"
_DESCRIPTION = (
    "Person re-identification data sets: what is supported, making synthetic ones, and checking "
    "that those on disk are complete and readable."
)

Progress = Callable[[int, int], None]
Root = Annotated[str, tyro.conf.arg(metavar="ROOT")]
Name = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
Limit = Annotated[str | None, tyro.conf.arg(metavar="SIZE")]

# A photograph of 12 megapixels as it is decoded and as RGB; ReID images are a hundredth of that.
_IMAGE_BYTES = 72 * 10**6
_RESERVE_BYTES = 32 * 2**20


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``reid-data`` with ``argv`` (default: the process's arguments) and leave the process."""
    commands: dict[str, Callable[..., None]] = {
        "list": show_list,
        "synthesize": synthesize_data,
        "check": check_data,
        "stats": show_stats,
    }

    def run() -> None:
        tyro.extras.subcommand_cli_from_dict(
            commands, prog=_PROG, description=_DESCRIPTION, args=argv
        )

    run_command(_PROG, run)


def show_list(names: Annotated[tuple[str, ...], tyro.conf.Positional] = (), /) -> None:
    """List the data sets, their splits and protocols, and where to get them.

    Args:
        names: Data sets to describe in full, with the expected folders; default: all, in short.
    """
    from reid_core.evaluation.protocols.lookup import protocols_for

    unknown = [name for name in names if name not in READERS]
    if unknown:
        raise ConfigError(f"{', '.join(unknown)}: unknown; choose from {', '.join(READERS)}")
    protocols = {
        name: ", ".join(protocol.name for protocol in protocols_for(name)) for name in DATASET_NAMES
    }
    for name in names or READERS:
        print(_describe(READERS[name].info, protocols[name]))
        print(f"  expected\n{_indent(READERS[name].info.tree, 4)}\n" if names else "")
    if names:
        return
    print(f"folder  your own images, one folder per person\n  protocols  {protocols['folder']}")
    print(f"{_indent(FOLDER_LAYOUT)}\n")
    print(f"csv  your own images, listed in a table\n  protocols  {protocols['csv']}")
    print(f"{_indent(CSV_LAYOUT)}\n")
    print("Synthetic people in the layout of a data set: --data synthetic or synthetic:NAME,")
    print("or `reid-data synthesize NAME DIR` to keep them.")


def synthesize_data(
    layout: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="LAYOUT")],
    directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")],
    /,
    seed: int = 1,
    size: Literal["tiny", "demo", "full"] = "demo",
    annotations: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None,
    memory_limit: Limit = None,
) -> None:
    """Write synthetic people in the layout of a data set.

    Args:
        layout: Data set whose layout is written: ltcc, prcc, last, celeb, celeb_light, sysu, regdb,
            llcm, market1501, dukemtmc or msmt17.
        directory: Folder in which the data set's own folder is made.
        seed: Seed; the same seed gives the same images.
        size: How many people and images.
        annotations: Folder to write what human parsing, face detection and face restoration would
            find in the images: label maps, boxes and restored faces.
        memory_limit: Refuse to start where more memory may be needed, e.g. 500MB.
    """
    from reid_core.data.synthetic import annotate_synthetic, synthesize

    _require_memory("drawing", memory_limit, num_images=1)
    with _progress_bar("drawing") as progress:
        folder = synthesize(layout, directory, seed=seed, size=size, progress=progress)
    print(f"synthetic {READERS[layout].info.title} in {folder}")
    if annotations is not None:
        with _progress_bar("annotating") as progress:
            annotate_synthetic(folder, annotations, progress=progress)
        print(f"its label maps, face boxes and restored faces in {annotations}")
    print(f"look at it with: reid-data stats --data {folder} --dataset {layout}")


def check_data(data: Root, dataset: Name = None, memory_limit: Limit = None) -> None:
    """Check a data set: layout, counts, file names, and that every image can be read.

    Leaves with status 0 when it is healthy, 1 when there is something to mend, 2 when it cannot be
    read at all.

    Args:
        data: Folder of the data set or its parent; a table for --dataset csv; or synthetic[:NAME].
        dataset: Name of the data set (see `reid-data list`); found from the folder if left out.
        memory_limit: Refuse to start where more memory may be needed, e.g. 500MB.
    """
    from reid_core.data.check import MAX_THREADS, check_dataset
    from reid_core.data.prefetch import available_cpus

    _require_memory("checking", memory_limit, num_images=min(MAX_THREADS, available_cpus()))
    name, root = _choose(data, dataset)
    with _progress_bar("decoding") as progress:
        report = check_dataset(name, root, progress=progress)
    print(report.format())
    if not report.healthy:
        raise SystemExit(1)


def show_stats(data: Root, dataset: Name = None, memory_limit: Limit = None) -> None:
    """Print the split table of a data set, beside the published one.

    Args:
        data: Folder of the data set or its parent; a table for --dataset csv; or synthetic[:NAME].
        dataset: Name of the data set (see `reid-data list`); found from the folder if left out.
        memory_limit: Refuse to start where more memory may be needed, e.g. 500MB.
    """
    from reid_core.data.check import format_stats

    _require_memory("reading file names", memory_limit, num_images=0)
    name, root = _choose(data, dataset)
    found = read_dataset(name, root).dataset
    print(format_stats(found))
    for note in found.notes:
        print(f"note: {note}")


def _require_memory(work: str, limit: str | None, *, num_images: int) -> None:
    """Refuse work that needs more memory than it may have."""
    plan = MemoryPlan(limit, reserve=_RESERVE_BYTES)
    if num_images:
        plan.add("images that are decoded or drawn at one time", num_images * _IMAGE_BYTES)
    plan.require(work)


def _choose(data: str, dataset: str | None) -> tuple[str, str | Path]:
    """Return the data set's name and root; makes the synthetic one where it is asked for."""
    source, _, layout = data.partition(":")
    if source != "synthetic":
        return dataset or find_dataset(data), data
    from reid_core.data.synthetic import ensure_synthetic

    layout = layout or dataset or "ltcc"
    with _progress_bar("drawing") as progress:
        root = ensure_synthetic(layout, progress=progress)
    return dataset or layout, root


def _describe(info: DatasetInfo, protocols: str) -> str:
    # The trials of a data set are of one size.
    shown = [split for split in info.splits if info.num_trials == 1 or split.endswith("_1")]
    sizes = ", ".join(
        f"{split} {count.num_images:,}" if count and count.num_images else split
        for split, count in ((split, info.counts.get(split)) for split in shown)
    )
    trials = f" and so on, {info.num_trials} trials" if info.num_trials > 1 else ""
    fields = {
        "folder": f"ROOT/{' or '.join((info.folder, *info.archives))}",
        "images": sizes + trials,
        "protocols": protocols,
        "from": info.source.removeprefix("from "),
        "paper": info.paper,
    }
    lines = [f"  {name:<9}  {value}" for name, value in fields.items() if value]
    return "\n".join([f"{info.name}  {info.title}", *lines])


def _indent(text: str, width: int = 2) -> str:
    return "\n".join(f"{' ' * width}{line}" for line in text.splitlines())


@contextmanager
def _progress_bar(what: str) -> Iterator[Progress | None]:
    """Show progress on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
