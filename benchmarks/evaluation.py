"""What an evaluation costs: ours, a full sort and installed libraries, against the product alone.

    python benchmarks/evaluation.py [--sizes ltcc,market] [--threads 1,2] [--rounds 3] [--keep]

From features in memory (or in a memory-mapped file) to mAP and CMC. In each round every contestant
runs once in turn, in a fresh process, between two timings of the fp32 matrix product of the same
features; what counts is the ratio of the times, its median over the rounds. A contestant whose
matrix would not fit gets a part of the queries, and so does the product beside it: every row costs
the same. The features are synthetic.

Writes JSON, a Markdown table and, where ``sweep`` is among the sizes, a plot of cost against the
size of the gallery. Ends with status 1 if a contestant with our definition of mAP found another
than ours, or failed.
"""

from __future__ import annotations

import sys

from cost.contestants import CONTESTANTS
from cost.session import Benchmark, Case, run
from cost.synthetic_features import BIG, LTCC, MARKET, MSMT17, sweep

SWEEP = (1_000, 3_162, 10_000, 31_623, 100_000, 316_228, 1_000_000)

BENCHMARK = Benchmark(
    name="evaluation",
    title="Cost of an evaluation",
    product="the matrix product of query and gallery features alone",
    cases={
        "ltcc": (Case(size=LTCC), Case(size=LTCC, match="cloth_changing")),
        "market": (Case(size=MARKET),),
        "msmt17": (Case(size=MSMT17),),
        "big": (Case(size=BIG),),
        "big-mapped": (Case(size=BIG, mapped=True),),
        "sweep": tuple(Case(size=sweep(num_gallery), sweep=True) for num_gallery in SWEEP),
    },
    contestants=CONTESTANTS,
    parts=True,
    tolerance=1e-6,
)


if __name__ == "__main__":
    sys.exit(run(BENCHMARK, sys.argv[1:], "What an evaluation costs, against the product alone."))
