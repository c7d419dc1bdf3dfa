"""A resumed run must go on with the images that it was started on."""

from __future__ import annotations

import json

from reid_core.data.fingerprint import fingerprint
from reid_core.data.sample import ReIDDataset
from reid_core.engine.folder import DATA_NAME
from reid_core.engine.run import Run
from reid_core.errors import CheckpointError
from reid_core.files import write_json

__all__ = ["require_same_data"]


def require_same_data(run: Run, dataset: ReIDDataset) -> None:
    """Note a new run's data set in its folder, or compare it with the one of a continued run.

    Args:
        run: The run; every process calls this.
        dataset: The data set as read now; its place may have changed, its files and labels not.

    Raises:
        CheckpointError: When the run was started on other data, or its record is damaged.
    """
    path, found = run.folder / DATA_NAME, fingerprint(dataset)
    with run.main_first():
        if run.is_main and not path.exists():
            record = {
                "dataset": dataset.name,
                "fingerprint": found,
                "synthetic": dataset.synthetic,
                "images": {name: len(samples) for name, samples in dataset.splits.items()},
                "notes": list(dataset.notes),
            }
            write_json(path, record)
        try:
            expected = json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"{path} is damaged ({error}); delete it if you are sure that the data set is the "
                "one that this run was started on"
            ) from error
    if expected != found:
        raise CheckpointError(
            f"the run in {run.folder} was started on a data set with fingerprint {expected}, this "
            f"one has {found}: files, labels or companions (face crops, masks) differ. Continue "
            "with the same images (`reid-data stats` shows the fingerprint that they have without "
            "a prepared folder) and the same companions, or start a new run with --out"
        )
