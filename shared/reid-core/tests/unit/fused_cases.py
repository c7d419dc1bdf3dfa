"""Script: run the Triton kernels, which need TRITON_INTERPRET=1 without a GPU.

Arguments: a folder. Reads its ``tasks.pt``, arguments of ``count`` and of ``pair_products``, and
writes ``results.pt``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from reid_core.evaluation.counting.kernel_counter import Blocks, KernelCounter
from reid_core.evaluation.counting.pair_kernel import pair_products

# Small tiles, so that small cases have several in both directions and programs share them unevenly.
BLOCKS = Blocks(16, 32, 16, warps=1, stages=1)


def count(case: dict, kernel: str, num_tiles: int) -> list | None:
    """Count a case with one kernel: ``scores``, or that of products in a precision."""
    counter = KernelCounter(*(case[key] for key in ("query_ids", "high", "low", "capacity")))
    for part in torch.arange(len(case["gallery"])).chunk(num_tiles):
        gallery, ids, offsets = (case[key][part] for key in ("gallery", "gallery_ids", "offsets"))
        start = int(part[0])
        if kernel == "scores":
            counter.add_scores(case["queries"] @ gallery.T - offsets, ids, start)
        else:
            counter.add_products(
                case["queries"], gallery, ids, offsets, start, kernel, BLOCKS, num_programs=3
            )
    cells = counter.ambiguous()
    return None if cells is None else [counter.counts(), *cells]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    tasks, pairs = torch.load(folder / "tasks.pt")
    results = [count(*task) for task in tasks], [pair_products(*case) for case in pairs]
    torch.save(results, folder / "results.pt")
