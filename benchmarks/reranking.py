"""What k-reciprocal re-ranking costs: ours and a dense reference, against the N x N product alone.

    python benchmarks/reranking.py [--sizes small,market] [--threads 1,2] [--rounds 3] [--keep]

From features in memory to the mAP of the re-ranked gallery (k1 = 20, k2 = 6, lambda = 0.3). In each
round every contestant runs once in turn, in a fresh process, between two timings of the fp32 matrix
product of all images (queries and gallery together) with themselves; what counts is the ratio of
the times, its median over the rounds. At MSMT17's size only ours is measured, and the product is
timed on a part of its rows. The features are synthetic.

Writes JSON and a Markdown table. Ends with status 1 if mAPs differ or a contestant failed.
"""

from __future__ import annotations

import sys

from cost.rerank_contestants import CONTESTANTS
from cost.session import Benchmark, Case, run
from cost.synthetic_features import MARKET, MARKET_PART, MSMT17

BENCHMARK = Benchmark(
    name="reranking",
    title="Cost of k-reciprocal re-ranking",
    product="the matrix product of all images with themselves alone",
    cases={
        "small": (Case(size=MARKET_PART),),
        "market": (Case(size=MARKET),),
        "msmt17": (Case(size=MSMT17),),
    },
    contestants=CONTESTANTS,
    parts=False,
    # The reference is float32: it orders a few neighbours at nearly the same distance otherwise.
    tolerance=1e-4,
)


if __name__ == "__main__":
    sys.exit(run(BENCHMARK, sys.argv[1:], "What re-ranking costs, against the N x N product."))
