"""IICS: intra-inter camera similarity for unsupervised person re-identification.

Xuan, Zhang, "Intra-Inter Camera Similarity for Unsupervised Person Re-Identification", CVPR 2021.

``IICS`` is the network; ``load_network`` reads our weights and checkpoints of the authors' code.
Both are imported on their first use, so that the commands answer at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_iics.loading import load_network
    from reid_iics.model import IICS

    __version__: str

__all__ = ["IICS", "__version__", "load_network"]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("reid-iics")
    if name == "IICS":
        from reid_iics.model import IICS

        return IICS
    if name == "load_network":
        from reid_iics.loading import load_network

        return load_network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
