"""``manifest.json``: what a prepared folder holds, of which data set, and how it was made.

Imports no NumPy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_core.data.fingerprint import fingerprint
from reid_core.data.sample import ReIDDataset
from reid_core.errors import DatasetError
from reid_core.files import write_json
from reid_deskpro.prepare.census import Census
from reid_deskpro.prepare.records import RECORDS_FOLDER

if TYPE_CHECKING:
    from reid_deskpro.prepare.runner import StepResult

__all__ = ["MANIFEST_NAME", "Manifest", "read_manifest", "require_finished"]

MANIFEST_NAME = "manifest.json"

_TOOL = "deskpro-prepare"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is known of a prepared folder.

    Attributes:
        dataset: Name of the data set.
        root: The data set's own folder.
        fingerprint: As ``reid_core.data.fingerprint`` makes it.
        synthetic: Whether the images were generated.
        notes: What differs from the published splits.
        steps: By the name of a step: its parameters, and how many images it wrote files for and
            why it wrote none for the others.
        census: Figures of ``Census.as_json``; empty while a run is going on.
        sheet_images: Images of each split on the contact sheet; 0 without one.
        complete: False while a run is going on, and after one that was stopped.
    """

    dataset: str
    root: str
    fingerprint: str
    synthetic: bool
    notes: tuple[str, ...] = ()
    steps: Mapping[str, Any] = field(default_factory=dict)
    census: Mapping[str, Any] = field(default_factory=dict)
    sheet_images: int = 0
    complete: bool = False

    @classmethod
    def begin(cls, dataset: ReIDDataset, folder: Path) -> Manifest:
        """Return the manifest of a folder that is about to be worked on.

        What earlier runs did there is taken over.

        Raises:
            DatasetError: When the folder was made of another data set, or its manifest is damaged.
        """
        earlier = read_manifest(folder)
        if earlier is not None and earlier.dataset != dataset.name:
            raise DatasetError(
                f"{folder} was prepared from {earlier.dataset} ({earlier.root}), not from "
                f"{dataset.name}; choose another folder with --out"
            )
        return cls(
            dataset=dataset.name,
            root=str(dataset.root.absolute()),
            fingerprint=fingerprint(dataset),
            synthetic=dataset.synthetic,
            notes=dataset.notes,
            steps={} if earlier is None else earlier.steps,
            sheet_images=0 if earlier is None else earlier.sheet_images,
        )

    def with_step(self, name: str, parameters: Mapping[str, Any], result: StepResult) -> Manifest:
        """Return the manifest with a finished step."""
        entry = {
            "version": version("reid-deskpro"),
            "parameters": dict(parameters),
            "images": result.num_images,
            "written": result.num_images - sum(result.missing.values()),
            "missing": result.missing,
            "records": f"{RECORDS_FOLDER}/{name}.jsonl",
        }
        return replace(self, steps={**self.steps, name: entry})

    def finish(self, census: Census, sheet_images: int) -> Manifest:
        """Return the manifest of a complete folder."""
        return replace(self, census=census.as_json(), sheet_images=sheet_images, complete=True)

    def write(self, folder: Path) -> None:
        """Write it.

        Raises:
            OutputError: When it cannot be written.
        """
        write_json(
            folder / MANIFEST_NAME,
            {
                "tool": _TOOL,
                "version": version("reid-deskpro"),
                "complete": self.complete,
                "dataset": {
                    "name": self.dataset,
                    "root": self.root,
                    "fingerprint": self.fingerprint,
                    "synthetic": self.synthetic,
                    "notes": list(self.notes),
                },
                "steps": dict(self.steps),
                "sheet_images": self.sheet_images,
                **self.census,
            },
        )


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a prepared folder; None where there is none.

    Raises:
        DatasetError: When it cannot be read, or another program wrote it.
    """
    path = folder / MANIFEST_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path}: {error}; remove it and prepare again") from error
    try:
        about = content["dataset"]
        return Manifest(
            dataset=about["name"],
            root=about["root"],
            fingerprint=about["fingerprint"],
            synthetic=about["synthetic"],
            notes=tuple(about["notes"]),
            steps=content["steps"],
            sheet_images=content["sheet_images"],
            census={key: content[key] for key in ("splits", "training") if key in content},
            complete=content["complete"],
        )
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{path} is no manifest of {_TOOL} (it lacks {error}); choose another folder"
        ) from error


def require_finished(folder: Path) -> None:
    """Check that the last preparation of a folder, if there was one, came to its end.

    Raises:
        DatasetError: When it was stopped: masks and faces may be of different settings.
    """
    manifest = read_manifest(folder)
    if manifest is not None and not manifest.complete:
        raise DatasetError(
            f"the preparation of {folder} was stopped before its end; run the same "
            "deskpro-prepare command again, it goes on where it was"
        )
