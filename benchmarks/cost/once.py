"""Measure one contestant once; started in a fresh process by ``cost.fresh_process``.

``python -m cost.once SPEC``, where SPEC is a ``Spec`` as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cost import contestants, rerank_contestants
from cost.fresh_process import Spec
from cost.measuring import Prepared, measure, product_precision, products, timed
from cost.problem import OURS, PRODUCT, Outcome, Problem
from cost.synthetic_features import read_labels

# The product's ways are compared on at most this many cells, and a larger N x N product is timed
# on as many and scaled.
TRIAL_CELLS = 2**27
TIMED_CELLS = 2**30

LISTS = {
    "evaluation": contestants.CONTESTANTS,
    "reranking": rerank_contestants.CONTESTANTS,
}


class Features:
    """The features of a folder as a spec asks for them.

    Attributes:
        images: (Q + G, D) float32, queries first; None where the gallery is mapped.
        query: (Q, D); of an evaluation only the part that is asked for.
        gallery: (G, D), pages of its file where it is mapped.
    """

    def __init__(self, folder: Path, spec: Spec) -> None:
        self._folder, self._spec = folder, spec
        self._device = torch.device(spec.device)
        self.images: Tensor | None = None
        if spec.mapped:
            self.query = self._read("query")
            # Copied where it is written to, which it is not: tensors cannot be read-only.
            mapped = np.load(folder / "gallery.npy", mmap_mode="c")
            self.gallery = torch.from_numpy(mapped)
        else:
            query, gallery = self._read("query"), self._read("gallery")
            self.images = torch.cat([query, gallery])
            self.query, self.gallery = self.images[: len(query)], self.images[len(query) :]
        if spec.benchmark == "evaluation":
            self.query = self.query[: spec.num_queries]

    def ways(self, max_cells: int | None = None) -> dict[str, Prepared]:
        """Return the ways to compute the product, of features in memory in any case.

        Args:
            max_cells: Compute about as many cells of it only.
        """
        rows = self.query
        columns = self._read("gallery") if self.images is None else self.gallery
        if self._spec.benchmark == "reranking":
            assert self.images is not None
            rows = columns = self.images
        if max_cells is not None:
            rows = rows[: max(8, max_cells // len(columns))]
        if self._device.type == "cuda" and self._spec.precision == "bf16":
            rows, columns = rows.bfloat16(), columns.bfloat16()
        return products(rows, columns)

    def product(self) -> Callable[[], object]:
        """Make the product ready that the spec names."""
        limit = TIMED_CELLS if self._spec.benchmark == "reranking" else None
        return self.ways(limit)[self._spec.product]()

    @property
    def scale(self) -> float:
        """How many times more cells the product has than ``product`` computes."""
        if self.images is None or self._spec.benchmark != "reranking":
            return 1.0
        return max(1.0, len(self.images) / max(8, TIMED_CELLS // len(self.images)))

    def _read(self, split: str) -> Tensor:
        return torch.from_numpy(np.load(self._folder / f"{split}.npy")).to(self._device)


def main(argv: Sequence[str]) -> None:
    """Measure what the JSON text says."""
    spec = Spec(**json.loads(argv[0]))
    torch.set_num_threads(spec.threads)
    with product_precision(spec.precision):
        answer = measure_contestant(spec) if spec.contestant else compare_products(spec)
    Path(spec.answer).write_text(json.dumps(answer), encoding="utf-8")


def compare_products(spec: Spec) -> dict[str, float]:
    """Return how long each way to compute the product takes, in seconds."""
    features = Features(Path(spec.folder), spec)
    device = torch.device(spec.device)
    # A way that is too large for all cells is no choice for a part of them.
    names = list(features.ways())
    return {
        name: min(timed(way(), device) for _ in range(2))
        for name, way in features.ways(TRIAL_CELLS).items()
        if name in names
    }


def measure_contestant(spec: Spec) -> dict[str, object]:
    """Return the time and the memory of one contestant, or of the product, and what it found."""
    folder = Path(spec.folder)
    for place in (folder / "small", folder):  # the first warms up: imports, threads, kernels
        features = Features(place, spec)
        outcomes: list[Outcome] = []
        contestant = prepare(features, place, spec, outcomes)
        if place != folder:
            contestant()()
            features.product()()
    device = torch.device(spec.device)
    measurement = measure(contestant, features.product, device, features.scale)
    found = outcomes[-1] if outcomes else None
    if spec.contestant == OURS and found and found.average_precision is not None:
        np.save(folder / f"{spec.match}.npy", found.average_precision)
    return {
        **asdict(measurement),
        "ratio": measurement.seconds / measurement.product_seconds,
        "mean_ap": found.mean_ap if found else None,
        "rank1": float(found.cmc[0]) if found and found.cmc is not None else None,
    }


def prepare(features: Features, folder: Path, spec: Spec, outcomes: list[Outcome]) -> Prepared:
    """Return the contestant, which appends what it finds to ``outcomes``."""
    if spec.contestant == PRODUCT:
        return features.product
    query, gallery = read_labels(folder)
    problem = Problem(
        query=features.query,
        gallery=features.gallery,
        images=features.images,
        query_labels=query.take(np.arange(len(features.query))),
        gallery_labels=gallery,
        match=spec.match,
        device=torch.device(spec.device),
        precision=spec.precision,
    )
    run = next(one.run for one in LISTS[spec.benchmark] if one.name == spec.contestant)

    def work() -> None:
        outcomes.append(run(problem))

    return lambda: work


if __name__ == "__main__":
    main(sys.argv[1:])
