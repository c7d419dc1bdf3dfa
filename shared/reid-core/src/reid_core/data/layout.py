"""What is known of a published data set before its folder is opened: names, layout, sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["PREPARED_SUFFIX", "SYNTHETIC_MARKER", "CameraLabel", "DatasetInfo", "SplitCount"]

SYNTHETIC_MARKER = "synthetic.json"
"""File in a data set's own folder that says that its images were generated."""

PREPARED_SUFFIX = "_lr_hr_mask"
"""End of the name of an archive that holds a data set with its companion images."""

CameraLabel = Literal["camera", "tracklet", "image"]
"""What ``Sample.camid`` holds: a camera, the tracklet, or a number of the image's own."""


class SplitCount(NamedTuple):
    """Size of a split as published; None where no figure is published."""

    num_pids: int | None
    num_images: int | None
    num_clothes: int | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """One published data set.

    Attributes:
        name: What ``--dataset`` takes, e.g. ``ltcc``.
        title: What people call it, e.g. ``LTCC``.
        folder: Name of its own folder as its authors ship it, e.g. ``LTCC_ReID``.
        other_folders: Names that it has in other releases and copies.
        archives: Names of the zip files in which its authors ship it; read in place where there is
            no folder.
        layout: Tree of that folder, one entry per line, as error messages show it.
        required: Folders and files below ``folder`` without which it cannot be read; ``a or b``
            where either will do.
        probe: A folder below ``folder`` and a regular expression; a folder is taken for this data
            set unasked only where an entry of it matches.
        splits: Names of the splits, training first.
        camera_label: What stands in ``Sample.camid``.
        clothes_label: Which splits have outfit labels: all; training alone, and elsewhere
            ``Sample.clothes_id`` repeats the identity; or none, and it is -1.
        num_trials: Divisions into training and test people, each with splits of its own that end in
            its number (``train_1``, ``test_1``, ...); 1 where there is a single one.
        counts: Published size by split. A key such as ``query+gallery`` counts splits together, one
            such as ``train (infrared)`` the images of one modality.
        source: Where the images can be asked for.
        paper: The publication to cite.
    """

    name: str
    title: str
    folder: str
    layout: str
    required: tuple[str, ...]
    probe: tuple[str, str]
    splits: tuple[str, ...]
    counts: Mapping[str, SplitCount]
    source: str
    paper: str
    other_folders: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    camera_label: CameraLabel = "camera"
    clothes_label: Literal["all", "train", "none"] = "all"
    num_trials: int = 1

    @property
    def tree(self) -> str:
        """The expected tree below ROOT, ready to print."""
        lines = [f"ROOT/{self.folder}/", *(f"  {line}" for line in self.layout.splitlines())]
        if self.archives:
            lines.append(f"or ROOT/{' or '.join(self.archives)}, which is read in place")
        return "\n".join(lines)
