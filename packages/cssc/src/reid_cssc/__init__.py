"""CSSC: content and salient semantics collaboration for cloth-changing person re-identification.

Wang, Qian, Li, Chen, Fu, Xue, "Content and Salient Semantics Collaboration for Cloth-Changing
Person Re-Identification", ICASSP 2025.

``CSSC`` is the network of the paper; ``load_network`` reads our weights and checkpoints of the
authors' code. Both are imported on their first use, so that the commands answer at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_cssc.loading import load_network
    from reid_cssc.model import CSSC

    __version__: str

__all__ = ["CSSC", "__version__", "load_network"]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("reid-cssc")
    if name == "CSSC":
        from reid_cssc.model import CSSC

        return CSSC
    if name == "load_network":
        from reid_cssc.loading import load_network

        return load_network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
