"""Start one measurement in a fresh process and take its answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from reid_core.evaluation.counting.precision import Precision
from reid_core.evaluation.rules import Match

__all__ = ["ContestantError", "Spec", "in_fresh_process"]

BENCHMARKS = Path(__file__).parents[1]


class ContestantError(Exception):
    """A contestant failed in its process."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a process is to measure; goes to it as JSON.

    Attributes:
        benchmark: Whose contestants are meant.
        contestant: Name; empty to compare the ways to compute the product.
        folder: Where the features are.
        threads: Of products and of everything else.
        device: Where products are computed.
        precision: Of the engine's fast products; on CUDA of the product alone, too.
        num_queries: How many of the queries.
        match: Match rule.
        mapped: Whether the gallery stays in its file, which is mapped.
        product: How the product alone is computed.
        answer: File for the answer.
    """

    benchmark: Literal["evaluation", "reranking"]
    folder: str
    threads: int
    device: str
    precision: Precision
    num_queries: int
    match: Match = "standard"
    mapped: bool = False
    contestant: str = ""
    product: str = ""
    answer: str = ""


def in_fresh_process(spec: Spec) -> dict[str, Any]:
    """Measure what ``spec`` says and return what ``cost.once`` found.

    Raises:
        ContestantError: The process failed; the last line that it said is the message.
    """
    answer = Path(spec.folder) / "answer.json"
    answer.unlink(missing_ok=True)
    told = json.dumps(asdict(replace(spec, answer=str(answer))))
    done = subprocess.run(
        [sys.executable, "-m", "cost.once", told],
        env=environment(spec.threads, os.environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode or not answer.is_file():
        said = done.stderr.strip().splitlines()
        raise ContestantError(said[-1] if said else f"ended with status {done.returncode}")
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return found


def environment(threads: int, present: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that is to use so many threads."""
    paths = [str(BENCHMARKS), *filter(None, [present.get("PYTHONPATH")])]
    return {
        # Waiting threads sleep, as they do in the commands.
        "OMP_WAIT_POLICY": "PASSIVE",
        **present,
        **{f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")},
        "PYTHONPATH": os.pathsep.join(paths),
    }
