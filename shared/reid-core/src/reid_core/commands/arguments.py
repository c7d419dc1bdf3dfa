"""Arguments of ``<method>-eval``, ``<method>-embed`` and ``<method>-export``. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from reid_core.commands.scoring import ScoringArguments
from reid_core.config import DataConfig, require
from reid_core.data.sample import Modality
from reid_core.memory import parse_size

__all__ = ["EmbedArguments", "EvaluateArguments", "ExportArguments", "FlipChoice"]

FlipChoice = Literal["auto", "sum", "mean", "none"]
"""A ``FlipTest``, or that of the method."""


@dataclass(frozen=True, kw_only=True)
class _EvaluatedData:
    """Weights and images; a base class, so that these options come before those of the scoring."""

    weights: Path
    """A run folder, a model.safetensors, or a checkpoint released by the method's authors; for a
    data set with several divisions into training and test people a pattern, e.g.
    `runs/regdb-{trial}`: every trial with its own network, averaged."""
    data: str
    """The data set's own folder or its parent, or `synthetic[:NAME]`."""
    dataset: str = ""
    """Name of the data set (see `reid-data list`); found from the folder if left out."""
    prepared: Path | None = None
    """Folder of face crops that `deskpro-prepare` made of this data set; for networks that look at
    them."""
    protocol: tuple[str, ...] = ()
    """Protocols, e.g. ltcc/cloth_changing; default: the published ones of the data set."""
    trial: int | None = None
    """Division into training and test people, from 1 (RegDB); default: that of the weights."""
    permutation: Path | None = None
    """Table of gallery draws for sysu/..._official; default: the data set's own
    exp/rand_perm_cam.mat."""
    flip: FlipChoice = "auto"
    """Mirror images: `sum` of both features, `mean` of both at length 1, `none`; `auto`: as the
    method is evaluated."""
    out: Path | None = None
    """Folder for results.json and report.html; default: runs/<method>-eval-<dataset>-<n>."""
    device: str = "auto"
    """`auto` (CUDA where there is one, else CPU), `cpu`, `cuda`, `cuda:1` or `mps`."""
    height: int | None = None
    """Image height in pixels; default: what the weights were trained on."""
    width: int | None = None
    """Image width in pixels; default: what the weights were trained on."""
    batch_size: int = 128
    """Images per batch."""
    synthetic_size: Literal["tiny", "demo", "full"] = "demo"
    """How many people and images a synthetic data set has."""
    cache: Literal["auto", "memory", "disk"] = "auto"
    """Where decoded images are kept while they are embedded."""
    cache_dir: Path | None = None
    """Folder of memory-mapped image caches; default: REID_CACHE or ~/.cache/reid-core."""
    skip_corrupt: bool = False
    """Leave damaged images out and count them, instead of stopping at the first."""
    queries: int = 8
    """Ranked lists per protocol in the report: half the hardest queries, half random ones."""


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments(ScoringArguments, _EvaluatedData):
    """Which weights to evaluate on what, and how."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        require(self.queries >= 0, f"queries={self.queries} must not be negative")
        for name in ("height", "width", "trial"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name}={value} must be above 0")

    def data_config(self, own: DataConfig) -> DataConfig:
        """Return the data settings.

        Args:
            own: What is taken where nothing was given: name and trial of the data set; size and
                filter of the network's images, and its use of mirror images.
        """
        return replace(
            own,
            root=self.data,
            prepared=self.prepared,
            synthetic_size=self.synthetic_size,
            height=self.height or own.height,
            width=self.width or own.width,
            flip=own.flip if self.flip == "auto" else self.flip,
            cache=self.cache,
            cache_dir=self.cache_dir,
            skip_corrupt=self.skip_corrupt,
            test_batch_size=self.batch_size,
        )


@dataclass(frozen=True, kw_only=True)
class EmbedArguments:
    """Which images to turn into features."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files, folders (searched through), or CSV tables with a column `path`."""
    weights: Path
    """A run folder, a model.safetensors, or a checkpoint released by the method's authors."""
    out: Path = Path("features.npz")
    """File to write, .npz or .parquet."""
    batch_size: int = 64
    """Images per batch."""
    prepared: Path | None = None
    """Folder of face crops that `deskpro-prepare` made of the images' data set, for images whose
    crop no table names in a column `lr_face`; for networks that look at them."""
    modality: Modality | None = None
    """Modality of the images that no table labels in a column `modality`; needed by networks that
    treat visible and infrared images differently."""
    feature: str = ""
    """The feature wanted, or the group of parts, of a network that has several; default: the
    headline of its results."""
    flip: FlipChoice = "auto"
    """Mirror images: `sum` of both features, `mean` of both at length 1, `none`; `auto`: as the
    method is evaluated."""
    device: str = "auto"
    """`auto` (CUDA where there is one, else CPU), `cpu`, `cuda`, `cuda:1` or `mps`."""
    skip_corrupt: bool = False
    """Leave damaged images out and count them, instead of stopping at the first."""
    memory_limit: str | None = None
    """What the process may hold in memory, e.g. 8GB; refused before the start where it is not
    enough. GPU memory is not counted."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check_limit(self.memory_limit)
        require(bool(self.paths), "name at least one image file, folder or CSV table")
        require(self.batch_size >= 1, f"batch_size={self.batch_size} must be at least 1")
        require(
            self.out.suffix in (".npz", ".parquet"),
            f"--out {self.out} must end in .npz or .parquet",
        )


@dataclass(frozen=True, kw_only=True)
class ExportArguments:
    """Which weights to export, and as what."""

    weights: Path
    """A run folder, a model.safetensors, or a checkpoint released by the method's authors."""
    format: Literal["onnx", "pt2", "official"] = "onnx"
    """`onnx`, `pt2` (torch.export), or `official`: the layout of the authors' checkpoints."""
    out: Path | None = None
    """File to write; default: beside the weights, with the format's suffix."""
    feature: str = ""
    """The feature wanted, or the group of parts, of a network that has several; default: the
    headline of its results."""
    flip: FlipChoice = "auto"
    """Mirror images, which double the cost: `sum` of both features, `mean` of both at length 1,
    `none`; `auto`: as the method is evaluated."""
    memory_limit: str | None = None
    """What the process may hold in memory, e.g. 8GB; refused before the start where it is not
    enough."""

    def __post_init__(self) -> None:
        """Check the memory limit."""
        _check_limit(self.memory_limit)


def _check_limit(limit: str | None) -> None:
    """Refuse a memory limit that is no size."""
    if limit is not None:
        parse_size(limit)
