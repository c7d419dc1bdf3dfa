"""Commands in processes that begin with the libraries imported.

A page has dozens of commands, and importing PyTorch takes longer than most of them need at these
sizes. So each is the installed console script's function, in a process of its own that is forked
from a server which has imported the libraries and nothing else (where there is no fork: spawned).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path

__all__ = ["call", "console_scripts", "parse_only", "run_installed_command", "run_python"]

_SECONDS = 500
_PRELOAD = ("torch", "torchvision", "tyro", "reid_core.data.cli", "reid_core.evaluation.cli")


def console_scripts() -> set[str]:
    """Return the names of our installed commands."""
    found = entry_points(group="console_scripts")
    return {script.name for script in found if script.value.startswith("reid_")}


def run_installed_command(name: str, args: list[str]) -> None:
    """Call an installed command as its script does."""
    sys.argv = [name, *args]
    (script,) = entry_points(group="console_scripts", name=name)
    sys.exit(script.load()())


def run_python(path: str, args: Sequence[str] = ()) -> None:
    """Run a script."""
    sys.argv = [path, *args]
    runpy.run_path(path, run_name="__main__")


def parse_only(path: str, args: list[str]) -> None:
    """Start a script and leave as soon as it has parsed its arguments."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_leave(*given: object, **named: object) -> None:
        parse(*given, **named)
        sys.exit(0)

    argparse.ArgumentParser.parse_args = parse_and_leave
    sys.argv = [path, *args]
    sys.path.insert(0, str(Path(path).parent))
    runpy.run_path(path, run_name="__main__")
    sys.exit(f"{path} parsed no arguments")


def _child(folder: Path, output: Path, work: Callable[..., None], args: tuple[object, ...]) -> None:
    with output.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    sys.path = [path for path in sys.path if path]
    try:
        work(*args)
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def call(folder: Path, work: Callable[..., None], *args: object) -> tuple[int, str]:
    """Run a function of this module in a fresh process; return its status and output."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload(list(_PRELOAD))
    output = folder / ".output"
    process = context.Process(target=_child, args=(folder, output, work, args))
    process.start()
    process.join(_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode, output.read_text(encoding="utf-8", errors="replace")
