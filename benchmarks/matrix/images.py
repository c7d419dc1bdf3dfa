"""Are the images there? If not, what to do; asked and answered through ``reid-data``."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from matrix.options import ALL, Options, session_name
from matrix.running import find_program
from reid_core.data.naming import dataset_title
from reid_core.data.readers import READERS, detect_datasets

__all__ = ["explain_missing_data", "find_datasets"]


def explain_missing_data(names: Sequence[str], options: Options) -> None:
    """Say where to get the data sets, where to put them and how to run without them.

    Args:
        names: The data sets that are asked for.
        options: What was asked for.
    """
    dataset = options.dataset
    what = "its data sets" if dataset == ALL else dataset_title(dataset)
    print(f"This benchmark needs the images of {what}, which are not ours to give out.")
    print("ROOT is any folder of your choice:\n", flush=True)
    subprocess.run(
        [find_program("reid-data", options.environments, "core"), "list", *names], check=True
    )
    command = f"nox -s {session_name(dataset)} -- --data"
    print(f"Then:        {command} ROOT")
    print(f"Without it:  {command} synthetic   ({_time(dataset)} on two CPU cores)")
    print("             the same session on generated people; its figures say nothing of real ones")
    if dataset == ALL:
        print("A part of it: --methods aim,cssc, or nox -s benchmark-ltcc and so on")


def find_datasets(names: Sequence[str], options: Options) -> list[str]:
    """Return the data sets whose images are there; says of the others what is wrong.

    Args:
        names: The data sets that are asked for.
        options: What was asked for; real images.
    """
    root = Path(str(options.data)).expanduser()
    tried = list(names)
    if options.dataset == ALL:
        present = detect_datasets(root)
        tried = [name for name in names if name in present or _has_folder(root, name)]
    program = find_program("reid-data", options.environments, "core")
    if not tried:
        subprocess.run([program, "stats", "--data", str(options.data)], check=False)
        return []
    found = []
    for name in tried:
        command = [program, "stats", "--data", str(options.data), "--dataset", name]
        if subprocess.run(command, check=False).returncode == 0:
            found.append(name)
    missing = [name for name in names if name not in found]
    if missing and found:
        print(f"not in {options.data}, left out: {', '.join(missing)}", flush=True)
    return found


def _has_folder(root: Path, name: str) -> bool:
    """Tell whether a folder has the data set's name, whatever is in it."""
    info = READERS[name].info
    return any((root / folder).is_dir() for folder in (info.folder, *info.other_folders))


def _time(dataset: str) -> str:
    return "some hours" if dataset == ALL else "10 to 20 minutes"
