"""reid-core: the library under the reid-* person re-identification packages.

Subpackages: ``data`` (readers, synthetic data, input pipeline, samplers), ``models``, ``losses``,
``evaluation`` (exact ranking for every protocol), ``engine`` (runs, checkpoints, distribution) and
``report`` (one self-contained HTML file). Importing this module imports none of them.
"""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("reid-core")

__all__ = ["__version__"]
