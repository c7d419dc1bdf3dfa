"""Settings that every method shares, and their JSON form. Imports no torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from reid_core.errors import ConfigError
from reid_core.memory import parse_size

__all__ = [
    "DataConfig",
    "FlipTest",
    "Interpolation",
    "OptimConfig",
    "RunConfig",
    "from_dict",
    "load_config",
    "require",
    "to_dict",
]

T = TypeVar("T")

Interpolation = Literal["bilinear", "bicubic", "lanczos"]
"""Filter with which images are resized, as Pillow names them."""

FlipTest = Literal["sum", "mean", "none"]
"""What becomes of the mirror image mx of an image x at test time; f is the network.

``sum``: normalize(f(x) + f(mx)); ``mean``: normalize(normalize(f(x)) + normalize(f(mx))), as CAJ
(Ye et al., ICCV 2021) does; ``none``: normalize(f(x)).
"""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and how they are kept in memory."""

    root: str = "data"
    """Folder that holds the data set's own folder, or that folder itself; `synthetic` (or
    `synthetic:prcc`) makes and uses the built-in miniature."""
    dataset: str = "ltcc"
    """Name of the data set; `reid-data list` shows all."""
    prepared: Path | None = None
    """Folder of face crops and masks that `deskpro-prepare` made of this data set; for methods
    that use them."""
    trial: int = 1
    """Which division into training and test people, from 1, of a data set that has several
    (RegDB: 1 to 10)."""
    prefer_arrays: bool = False
    """Take SYSU-MM01's training images from the official pre-processed arrays even where the
    image files are there."""
    synthetic_size: Literal["tiny", "demo", "full"] = "demo"
    """How many people and images a synthetic data set has."""
    height: int = 384
    """Image height in pixels after resizing."""
    width: int = 192
    """Image width in pixels after resizing."""
    interpolation: Interpolation = "bilinear"
    """Filter with which images are resized, as in Pillow."""
    cache: Literal["auto", "memory", "disk"] = "auto"
    """Where decoded images are kept: RAM, a memory-mapped file, or RAM while they need less than
    a quarter of it (or of the memory limit)."""
    cache_dir: Path | None = None
    """Folder of memory-mapped image caches; default: REID_CACHE or ~/.cache/reid-core."""
    skip_corrupt: bool = False
    """Leave damaged images out and count them, instead of stopping at the first."""
    test_batch_size: int = 128
    """Images per batch when features are extracted."""
    flip: FlipTest = "sum"
    """Mirror images at test time: `sum` of both features, `mean` of both at length 1, `none`."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(self.trial >= 1, f"data.trial={self.trial} must be at least 1")
        require(self.height >= 32, f"data.height={self.height} is too small; use 32 or more pixels")
        require(self.width >= 16, f"data.width={self.width} is too small; use 16 or more pixels")
        require(
            self.test_batch_size >= 1,
            f"data.test_batch_size={self.test_batch_size} must be at least 1",
        )


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser and learning-rate schedule."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimiser; `sgd` has Nesterov momentum 0.9."""
    lr: float = 3.5e-4
    """Initial learning rate."""
    weight_decay: float = 5e-4
    """L2 weight decay, on every parameter."""
    milestones: tuple[int, ...] = (20, 40)
    """Epochs (from 0) from which the learning rate is multiplied by gamma once more."""
    gamma: float = 0.1
    """Factor of the learning rate at each milestone."""
    warmup_epochs: int = 0
    """Epochs at the start with a smaller learning rate; 0: none."""
    warmup_factor: float = 0.1
    """Share of the learning rate with which the warm-up begins."""
    warmup_method: Literal["linear", "constant"] = "linear"
    """`linear` rises to the full learning rate epoch by epoch; `constant` jumps to it."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(self.lr > 0, f"optim.lr={self.lr} must be above 0")
        require(
            self.weight_decay >= 0, f"optim.weight_decay={self.weight_decay} must not be negative"
        )
        require(0 < self.gamma <= 1, f"optim.gamma={self.gamma} must lie in (0, 1]")
        require(
            list(self.milestones) == sorted(set(self.milestones))
            and min(self.milestones, default=0) >= 0,
            f"optim.milestones={self.milestones} must be rising epochs from 0, e.g. 20 40",
        )
        require(
            self.warmup_epochs >= 0,
            f"optim.warmup_epochs={self.warmup_epochs} must not be negative",
        )
        require(
            0 < self.warmup_factor <= 1,
            f"optim.warmup_factor={self.warmup_factor} must lie in (0, 1]",
        )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where and how a run happens; only seed and precision change what is computed."""

    out: Path | None = None
    """Run folder, new or empty; default: runs/<method>-<dataset>-<preset>-<n>."""
    seed: int = 1
    """Seed of everything random; process r of a distributed run uses seed + r."""
    device: str = "auto"
    """`auto` (CUDA where there is one, else CPU), `cpu`, `cuda`, `cuda:1` or `mps`."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` runs the backbones in bfloat16; whatever has exp, log or a square root stays fp32."""
    deterministic: bool = True
    """Deterministic device kernels."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to PyTorch."""
    memory_limit: str | None = None
    """What each process may hold in memory, e.g. 8GB; refused before the start where it is not
    enough. Mapped files, GPU memory and the losses' own tensors are not counted."""
    eval_every: int = 5
    """Evaluate after every n-th epoch; 0: only before the first and after the last."""
    checkpoint_steps: int = 0
    """Also save the training state every n batches inside an epoch; 0: at the end of each epoch."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(0 <= self.seed < 2**31, f"run.seed={self.seed} must lie in 0..2147483647")
        for name in ("threads", "eval_every", "checkpoint_steps"):
            value = getattr(self, name)
            require(value >= 0, f"run.{name}={value} must not be negative")
        if self.memory_limit is not None:
            parse_size(self.memory_limit)


def require(condition: bool, message: str) -> None:
    """Raise ``ConfigError(message)`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(message)


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain JSON values (paths as text with forward slashes)."""
    return {item.name: _plain(getattr(config, item.name)) for item in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def from_dict(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a configuration from ``to_dict``'s values.

    Unknown keys are errors; missing ones, inner ones too, take the defaults of ``kind()``.

    Raises:
        ConfigError: With every key that does not fit.
    """
    from cattrs import BaseValidationError, Converter, transform_error

    converter = Converter(forbid_extra_keys=True)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    try:
        return converter.structure(_merge(to_dict(kind()), values), kind)
    except BaseValidationError as error:
        reasons = "; ".join(line.replace("@ $.", "at ") for line in transform_error(error))
        raise ConfigError(f"the configuration does not fit {kind.__name__}: {reasons}") from error


def _merge(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults with the values in their place, inside inner mappings too."""
    merged = {**defaults, **values}
    for name, inner in defaults.items():
        if isinstance(inner, Mapping) and isinstance(merged[name], Mapping):
            merged[name] = _merge(inner, merged[name])
    return merged


def load_config(kind: type[T], path: Path) -> T:
    """Read a configuration written to ``config.json`` by a run.

    Raises:
        ConfigError: When the file is missing, is no JSON or does not fit.
    """
    if path.is_dir():
        path = path / "config.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(record, dict):
        raise ConfigError(f"{path} must hold one JSON object, not {type(record).__name__}")
    return from_dict(kind, record)
