"""What ``--data`` means, and what people call a data set. Imports no torch, no NumPy."""

from __future__ import annotations

from typing import Literal

from reid_core.errors import ConfigError

__all__ = [
    "SYNTHETIC_LAYOUTS",
    "LayoutName",
    "check_layout",
    "dataset_title",
    "is_synthetic",
    "name_dataset",
]

LayoutName = Literal[
    "ltcc",
    "prcc",
    "last",
    "celeb",
    "celeb_light",
    "sysu",
    "regdb",
    "llcm",
    "market1501",
    "dukemtmc",
    "msmt17",
]

SYNTHETIC_LAYOUTS: tuple[LayoutName, ...] = (
    *("ltcc", "prcc", "last", "celeb", "celeb_light"),
    *("sysu", "regdb", "llcm"),
    *("market1501", "dukemtmc", "msmt17"),
)
"""Data sets whose layout the generator writes."""

_SYNTHETIC = "synthetic"


def is_synthetic(root: str) -> bool:
    """Tell whether ``--data`` asks for generated images."""
    return root == _SYNTHETIC or root.startswith(f"{_SYNTHETIC}:")


def name_dataset(root: str, layout: str = SYNTHETIC_LAYOUTS[0]) -> str:
    """Return the name of the data set that ``--data ROOT`` means where ``--dataset`` is not given.

    Args:
        root: The value of ``--data``.
        layout: What ``synthetic`` alone means.

    Raises:
        DatasetNotFoundError: When nothing is recognised at ROOT.
        ConfigError: When there are several data sets, or no such synthetic one.
    """
    if not is_synthetic(root):
        from reid_core.data.readers import find_dataset

        return find_dataset(root)
    layout = root.partition(":")[2] or layout
    check_layout(layout)
    return layout


def dataset_title(name: str) -> str:
    """Return what people call a data set: ``Market-1501``, ``RegDB``.

    Args:
        name: As ``--dataset`` takes it, or ``custom``, as protocols call one's own images.
    """
    from reid_core.data.readers import READERS

    if name in READERS:
        return READERS[name].info.title
    return "your own images" if name == "custom" else f"your own images ({name})"


def check_layout(layout: str) -> None:
    """Check that the generator writes this layout.

    Raises:
        ConfigError: When it does not.
    """
    if layout not in SYNTHETIC_LAYOUTS:
        accepted = ", ".join(SYNTHETIC_LAYOUTS)
        raise ConfigError(
            f"no synthetic images in the layout of {layout!r}; choose from {accepted}"
        )
