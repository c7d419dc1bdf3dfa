"""What reports and results say of IICS."""

from __future__ import annotations

from reid_core.commands.results import MethodInfo
from reid_iics import __version__
from reid_iics.config import CITATION, PUBLISHED, SOURCE, Variant

__all__ = ["IICS_INFO", "info_of"]


def info_of(variant: Variant) -> MethodInfo:
    """Return what is known of a variant.

    Args:
        variant: How the number of clusters is chosen.
    """
    return MethodInfo(
        name="iics",
        title="IICS",
        version=__version__,
        citation=CITATION,
        source=SOURCE[variant],
        published=PUBLISHED[variant],
    )


# Weights do not tell how they were clustered.
IICS_INFO = info_of("fixed")
