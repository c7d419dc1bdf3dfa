"""AIM: causality-inspired cloth-debiasing for cloth-changing person re-identification.

Yang, Lin, Zhong, Wu, Wang, "Good is Bad: Causality Inspired Cloth-debiasing for Cloth-changing
Person Re-identification", CVPR 2023.

``AIM`` is the network of the paper; ``load_network`` reads our weights and the authors' files. Both
are imported on their first use, so that the commands answer at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_aim.loading import load_network
    from reid_aim.model import AIM

    __version__: str

__all__ = ["AIM", "__version__", "load_network"]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("reid-aim")
    if name == "AIM":
        from reid_aim.model import AIM

        return AIM
    if name == "load_network":
        from reid_aim.loading import load_network

        return load_network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
