"""The command ``reid-eval``: features made anywhere, evaluated under named protocols.

Parsing imports neither torch nor NumPy; the work is imported when the arguments are known to be
good.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from reid_core.cli import parse, run_command
from reid_core.commands.scoring import ScoringArguments
from reid_core.config import require
from reid_core.errors import ConfigError

__all__ = ["FeatureArguments", "main"]

_PROG = "reid-eval"
_DESCRIPTION = """\
Evaluate features that you made anywhere, under named protocols: exact figures, results.json, a CSV
table of all queries, report.html.

  reid-eval features.npz --protocol market1501/standard   one file, with an array or column `split`
  reid-eval query.npz gallery.npz                         queries and gallery in two files
  reid-eval features.npy --labels labels.csv              .npy files are mapped, not loaded
  reid-eval --list [DATASET | PROTOCOL ...]               all protocols: definition, needs, citation

Arrays of an .npz, columns of a .parquet or .csv: features (N, D) or (N, D, parts), pid, camid, and
where the protocol needs them clothes_id, modality, split; path for messages and ranked lists."""

_FILE_SUFFIXES = (".npz", ".npy", ".parquet")


@dataclass(frozen=True, kw_only=True)
class FileArguments:
    """Which features to evaluate under what; the first part of ``FeatureArguments``."""

    features: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FEATURES [GALLERY]")
    ] = ()
    """One file (.npz, .npy, .parquet), or two: that of the queries and that of the gallery."""
    protocol: Annotated[
        tuple[tuple[str, ...], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="NAME [NAME ...]"),
    ] = ()
    """Protocols, e.g. ltcc/cloth_changing, or a data set, e.g. ltcc, for its published ones.
    Default: custom."""
    list: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show all protocols, or those named or of the data sets named, and leave."""
    labels: tuple[Path, ...] = ()
    """CSV table with the columns path,pid,camid[,clothes_id,modality,split], in the order of the
    features; one for each file."""
    metric: Literal["cosine", "euclidean", "inner-product"] = "cosine"
    """How features are compared. For the cosine, rows that are not of length 1 are scaled to it."""
    camid_base: int = 0
    """Number of the first camera in your labels; protocols count from 0."""
    images: Path | None = None
    """Folder that relative image paths start from; default: a table's own folder, else this one."""
    trials: int | None = None
    """Draws of the gallery, for protocols that draw; default: what the protocol says."""
    permutation: Path | None = None
    """rand_perm_cam.mat of SYSU-MM01's authors, for its official draws."""


@dataclass(frozen=True, kw_only=True)
class FeatureArguments(ScoringArguments, FileArguments):
    """Which features to evaluate, and how."""

    seed: int = 1
    """Seed of the bootstrap and of the random queries in the report."""
    out: Path | None = None
    """Folder for what is written; default: runs/reid-eval-<file>-<n>."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print what results.json holds, in place of the table; messages go to standard error."""
    queries: int = 8
    """Ranked lists per protocol in the report: half the hardest queries, half random ones."""
    normalize_into: Path | None = None
    """Folder for copies of .npy files with rows of length 1: for files that are neither scaled nor
    fit into memory."""
    device: str = "auto"
    """`auto` (CUDA where there is one, else CPU), `cpu`, `cuda`, `cuda:1` or `mps`."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        require(
            not self.rerank or self.metric != "inner-product",
            "--rerank goes by distances; it needs --metric cosine or euclidean",
        )
        require(not self.expand or self.metric == "cosine", "--expand needs --metric cosine")
        require(self.seed >= 0, f"seed={self.seed} must not be negative")
        require(self.queries >= 0, f"queries={self.queries} must not be negative")
        require(self.trials is None or self.trials >= 1, f"trials={self.trials} must be at least 1")

    @property
    def protocols(self) -> tuple[str, ...]:
        """Names given with ``--protocol``, one after the other."""
        return tuple(name for names in self.protocol for name in names)


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``reid-eval`` with ``argv`` (default: the process's arguments) and leave the process."""
    args = sys.argv[1:] if argv is None else [*argv]

    def run() -> None:
        arguments = parse(_PROG, args, FeatureArguments, None, _DESCRIPTION)
        if arguments.list:
            _show_protocols(arguments.features)
            return
        _check_files(arguments)
        from reid_core.commands.evaluate_features import evaluate_features

        evaluate_features(arguments, command=shlex.join([_PROG, *args]))

    run_command(_PROG, run)


def _show_protocols(names: Sequence[str]) -> None:
    from reid_core.commands.console import say
    from reid_core.evaluation.protocols.lookup import (
        PROTOCOLS,
        describe,
        get_protocol,
        protocols_for,
    )

    chosen = [
        protocol
        for name in names
        for protocol in ([get_protocol(name)] if "/" in name else protocols_for(name))
    ]
    for protocol in chosen or PROTOCOLS.values():
        say(describe(protocol) + "\n")


def _check_files(arguments: FeatureArguments) -> None:
    """Refuse what is no file of features, or a file where a protocol is expected.

    Raises:
        ConfigError: The message shows how the two are told apart.
    """
    from reid_core.evaluation.protocols.lookup import PROTOCOLS

    swallowed = [name for name in arguments.protocols if name.endswith(_FILE_SUFFIXES)]
    if swallowed:
        raise ConfigError(
            f"--protocol takes all names that follow, {', '.join(swallowed)} included; put the "
            "files first: reid-eval FEATURES --protocol NAME"
        )
    if not arguments.features:
        raise ConfigError(
            "name a file of features: reid-eval FEATURES --protocol NAME (--list shows the "
            "protocols, --help all options)"
        )
    misplaced = [name for name in arguments.features if name in PROTOCOLS]
    if misplaced:
        raise ConfigError(
            f"{misplaced[0]} is a protocol; name it with --protocol {' '.join(misplaced)}"
        )
