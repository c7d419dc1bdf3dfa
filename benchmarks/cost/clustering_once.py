"""Cluster once with one contestant; started in a fresh process by ``benchmarks/clustering.py``.

``python -m cost.clustering_once SPEC``, where SPEC is a ``ClusteringSpec`` as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cost.clustering_contestants import CONTESTANTS, OURS, ClusteringContestant, Part
from cost.memory import PeakMemory
from cost.synthetic_features import read_labels
from reid_core.evaluation import RerankConfig, rerank_set
from reid_iics.clustering import number_by_appearance
from reid_iics.pair_distances import put_reranked
from reid_iics.similarity import mixed_distances

RERANKING = RerankConfig(normalization="min_max")


@dataclass(frozen=True, kw_only=True)
class ClusteringSpec:
    """What a process is to measure.

    Attributes:
        folder: Where features and distances are, and a folder ``small`` with a few to warm up.
        part: What is measured.
        contestant: Name; empty to write the distances of the features.
        threads: Of products and of everything else.
        num_clusters: K, of a dendrogram.
        answer: File for the answer.
    """

    folder: str
    part: Part = "dendrogram"
    contestant: str = ""
    threads: int = 1
    num_clusters: int = 1
    answer: str = ""


def main(argv: Sequence[str]) -> None:
    """Measure what the JSON text says."""
    spec = ClusteringSpec(**json.loads(argv[0]))
    torch.set_num_threads(spec.threads)
    folder = Path(spec.folder)
    answer: dict[str, Any] = {}
    if spec.contestant:
        answer = measure(spec, folder)
    else:
        for place in (folder / "small", folder):
            write_distances(place)
    Path(spec.answer).write_text(json.dumps(answer), encoding="utf-8")


def write_distances(folder: Path) -> None:
    """Write ``distances.npy``, the re-ranked distances of all pairs."""
    pairs = mixed_distances(torch.from_numpy(np.load(folder / "gallery.npy")))
    put_reranked(pairs, rerank_set(pairs, config=RERANKING))
    np.save(folder / "distances.npy", pairs.condensed)


def measure(spec: ClusteringSpec, folder: Path) -> dict[str, Any]:
    """Return the time and the memory of a contestant, and whether it finds our clusters."""
    contestant = next(
        one for one in CONTESTANTS if (one.name, one.part) == (spec.contestant, spec.part)
    )
    contestant.run(contestant.prepare(load(folder / "small", contestant)), 8)  # imports, threads
    given = contestant.prepare(load(folder, contestant))
    with PeakMemory(torch.device("cpu")) as peak:
        begin = time.perf_counter()
        labels = contestant.run(given, spec.num_clusters)
        seconds = time.perf_counter() - begin
    return {
        "seconds": seconds,
        "memory": peak.memory,
        "resident": peak.resident,
        "distances": 0 if isinstance(given, tuple) else int(given.nbytes),
        "num_clusters": int(labels.max()) + 1,
        "agreement": agreement(labels, folder / f"{spec.part}.npy", spec.contestant == OURS),
    }


def load(folder: Path, contestant: ClusteringContestant) -> Any:
    """Return what the contestant is given."""
    if contestant.part == "dendrogram":
        return np.load(folder / "distances.npy", mmap_mode="r")
    return torch.from_numpy(np.load(folder / "gallery.npy")), read_labels(folder)[1].camids


def agreement(labels: np.ndarray, path: Path, is_ours: bool) -> float | None:
    """Return the share of images in clusters that are ours, too; writes ours."""
    labels = number_by_appearance(labels)
    if is_ours:
        np.save(path, labels)
    if not path.is_file():
        return None
    ours = np.load(path)
    both = number_by_appearance(ours * (labels.max() + 1) + labels)
    sizes, own, shared = (np.bincount(one)[one] for one in (ours, labels, both))
    return float(((sizes == shared) & (own == shared)).mean())


if __name__ == "__main__":
    main(sys.argv[1:])
