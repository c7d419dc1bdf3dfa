"""Which of some images are infrared, as ``<method>-embed`` is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from reid_core.data.sample import Modality
from reid_core.errors import ConfigError

__all__ = ["infrared_flags", "label_modality"]


def label_modality(labels: Sequence[str], count: int, modality: Modality) -> list[str]:
    """Return a modality for each of so many images: its own, or the given one where it has none.

    Args:
        labels: One per image, empty where there is none; or none at all.
        count: Number of images.
        modality: The one for all others.
    """
    return [label or modality for label in labels or [""] * count]


def infrared_flags(paths: Sequence[Path], labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return (N,) bool, true for infrared images.

    Args:
        paths: The N images.
        labels: Their modalities, empty where there is none; or none at all.

    Raises:
        ConfigError: An image has no modality, or one that is not known.
    """
    for path, label in zip(paths, labels or [""] * len(paths), strict=True):
        if not label:
            raise ConfigError(
                "the network treats visible and infrared images differently, and the modality of "
                f"{path} is not known; give --modality visible or --modality infrared for all "
                "images, or a CSV table with the columns path and modality"
            )
        if label not in get_args(Modality):
            accepted = " or ".join(get_args(Modality))
            raise ConfigError(f"the modality of {path} is {label!r}; {accepted} is expected")
    return np.array([label == "infrared" for label in labels], dtype=np.bool_)
