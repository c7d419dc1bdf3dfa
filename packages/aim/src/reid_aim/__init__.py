"""AIM: causality-inspired cloth-debiasing for cloth-changing person re-identification.

Yang, Lin, Zhong, Wu, Wang, "Good is Bad: Causality Inspired Cloth-debiasing for Cloth-changing
Person Re-identification", CVPR 2023.
"""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("reid-aim")

__all__ = ["__version__"]
