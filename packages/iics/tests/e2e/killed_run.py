"""A training that kills itself: `killed_run.py PLACE NUMBER ARGS`, at the n-th call of a place."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module

from reid_iics import cli

PLACES = {
    "stage 1": ("reid_iics.step", "IntraStep", "__call__"),
    "stage 2": ("reid_iics.step", "InterStep", "__call__"),
    "clustering": ("reid_iics.clustering", "Dendrogram", "cut_below"),
}


def main() -> None:
    """Count the calls, then run ``iics-train``."""
    place, number, *args = sys.argv[1:]
    module, owner, name = PLACES[place]
    kind = getattr(import_module(module), owner)
    original, calls = getattr(kind, name), 0

    def counted(*values: object) -> object:
        nonlocal calls
        calls += 1
        if calls == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*values)

    setattr(kind, name, counted)
    cli.train(args)


if __name__ == "__main__":
    main()
