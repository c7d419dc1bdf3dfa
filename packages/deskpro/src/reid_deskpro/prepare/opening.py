"""What preparation begins with: settings are made complete, and refused where they cannot do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from reid_core.data.naming import is_synthetic, name_dataset
from reid_core.data.readers import find_dataset
from reid_core.data.synthetic import ensure_synthetic
from reid_core.data.synthetic.annotations import FACES, PARSING, RESTORED, ensure_annotations
from reid_core.errors import ConfigError
from reid_core.memory import MemoryPlan
from reid_deskpro.prepare.config import PrepareConfig

__all__ = ["Progress", "complete", "require_memory", "require_out"]

Progress = Callable[[str, int, int], None]
"""Called with what is done, how many images are done, and how many there are."""

# Of the synthetic data set's default layout; PRCC has the plainest change of clothes.
_LAYOUT = "prcc"

# A photograph of 12 megapixels as it is decoded and as RGB.
_IMAGE_BYTES = 72 * 10**6
# What is known of an image, as measured: its sample, task, boxes and record.
_BYTES_PER_IMAGE = 5000
# Graph, weights and work of a runtime, as multiples of the file.
_MODEL_COPIES = 4
_RESERVE_BYTES = 48 * 2**20


def complete(config: PrepareConfig, progress: Progress | None) -> PrepareConfig:
    """Fill in what can be found: the data set's name, and everything of synthetic data.

    Args:
        config: Settings as they were given.
        progress: See ``Progress``.

    Raises:
        ConfigError: When ``data`` or ``out`` is missing, ``data`` and ``dataset`` contradict each
            other, or a setting would have no effect.
        DatasetNotFoundError: When no data set is recognised there.
        OutputError: When synthetic data cannot be written.
    """
    if not config.data:
        raise ConfigError("--data is missing: give the folder of a data set, or `synthetic`")
    if not is_synthetic(config.data):
        if config.out is None:
            raise ConfigError("--out is missing: give the folder to prepare")
        if config.parsing is None and (config.keep or config.background):
            raise ConfigError(
                "--keep and --background say how masks are made of label maps; give --parsing, too"
            )
        return replace(config, dataset=config.dataset or find_dataset(config.data))
    layout = name_dataset(config.data, config.dataset or _LAYOUT)
    if config.dataset not in ("", layout):
        raise ConfigError(
            f"--data {config.data} and --dataset {config.dataset} contradict each other; leave one "
            "of them out"
        )
    drawing = None if progress is None else partial(progress, "drawing")
    size = config.synthetic_size
    root = ensure_synthetic(layout, size=size, progress=drawing)
    found = ensure_annotations(layout, size=size, progress=drawing)
    config = replace(
        config,
        data=str(root),
        dataset=layout,
        out=config.out or root.parent.with_name(f"{root.parent.name}-prepared"),
    )
    if config.parsing or config.faces or config.restored:
        return config
    restored = found / RESTORED if config.hr == "none" else None
    return replace(config, parsing=found / PARSING, faces=found / FACES, restored=restored)


def require_out(config: PrepareConfig, root: Path) -> Path:
    """Return the prepared folder.

    Args:
        config: Complete settings.
        root: The data set's own folder.

    Raises:
        ConfigError: When it is the data set's own folder.
    """
    assert config.out is not None, "complete settings name it"
    out = config.out.expanduser()
    if out.resolve() == root.resolve():
        raise ConfigError(f"--out {config.out} is the data set's own folder; choose another one")
    return out


def require_memory(config: PrepareConfig, num_images: int) -> None:
    """Refuse a run that needs more memory than it may have.

    Raises:
        MemoryLimitError: When one process may need more.
    """
    plan = MemoryPlan(config.memory_limit, reserve=_RESERVE_BYTES)
    plan.add(f"names and records of {num_images:,} images", num_images * _BYTES_PER_IMAGE)
    plan.add("one image that is decoded", _IMAGE_BYTES)
    if config.has_model and config.parsing is not None and config.parsing.is_file():
        size = _MODEL_COPIES * config.parsing.stat().st_size
        plan.add("the parsing model and its work", size, remedy="label maps from elsewhere")
    plan.require("preparation")
