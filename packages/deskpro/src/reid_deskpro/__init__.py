"""DeskPro: identity-sensitive knowledge propagation for cloth-changing person re-identification.

Wu, Liu, Shi, Tang, Guo, "Identity-Sensitive Knowledge Propagation for Cloth-Changing Person
Re-Identification", ICIP 2022.

``DeskPro`` is the network of the paper and ``LMBN`` one stream of it; ``load_network`` reads our
weights and checkpoints of the authors' code. All are imported on their first use, so that the
commands answer at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_deskpro.lmbn import LMBN
    from reid_deskpro.loading import load_network
    from reid_deskpro.model import DeskPro

    __version__: str

__all__ = ["LMBN", "DeskPro", "__version__", "load_network"]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("reid-deskpro")
    if name == "DeskPro":
        from reid_deskpro.model import DeskPro

        return DeskPro
    if name == "LMBN":
        from reid_deskpro.lmbn import LMBN

        return LMBN
    if name == "load_network":
        from reid_deskpro.loading import load_network

        return load_network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
