"""Run the methods through their public commands, beside the published rows.

    python benchmarks/run.py ltcc --data ROOT [--methods aim,cssc] [--seeds 3] [--devices 0,1]
    python benchmarks/run.py all --data ROOT         every data set that is found there
    python benchmarks/run.py all --report            only make tables and page from the ledger

Started by ``nox -s benchmark-ltcc -- --data ROOT``, which gives every method an environment of its
own; by itself it takes the commands that are installed. A plain baseline, which is no package,
takes part through the script beside this one. What is measured is what users get.

``matrix.toml`` says what is run. A cell (a row with a seed) leaves its run folder below ``--out``
and one record in ``results/ledger.jsonl``; a finished cell is not repeated and a stopped one is
continued, so a benchmark that was interrupted goes on where it was. From the ledger come
``results/matrix[-synthetic].md``, ``.csv`` and ``.html``. The parts are in ``matrix``.
"""

from __future__ import annotations

import sys

from matrix.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
