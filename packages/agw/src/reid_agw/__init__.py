"""AGW: a strong, simple baseline of visible-infrared person re-identification.

Ye, Shen, Lin, Xiang, Shao, Hoi, "Deep Learning for Person Re-Identification: A Survey and
Outlook", TPAMI 2021.

``AGW`` is the network; ``load_network`` reads our weights and checkpoints of the authors' code.
Both are imported on their first use, so that the commands answer at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_agw.loading import load_network
    from reid_agw.model import AGW

    __version__: str

__all__ = ["AGW", "__version__", "load_network"]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("reid-agw")
    if name == "AGW":
        from reid_agw.model import AGW

        return AGW
    if name == "load_network":
        from reid_agw.loading import load_network

        return load_network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
