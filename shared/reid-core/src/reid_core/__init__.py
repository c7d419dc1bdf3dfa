"""reid-core: the library under the reid-* person re-identification packages.

Subpackages: ``data`` (readers, synthetic data, input pipeline, samplers), ``models``, ``losses``,
``evaluation`` (exact ranking for every protocol), ``engine`` (runs, checkpoints, distribution),
``report`` (one self-contained HTML file) and ``commands`` (what all methods' commands share).
Importing this module imports none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """Look the version up when it is asked for: the search costs more than the rest of --help."""
    if name == "__version__":
        from importlib.metadata import version

        return version("reid-core")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
