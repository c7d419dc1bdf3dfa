"""What reports and results say of IICS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reid_core.commands.results import MethodInfo
from reid_iics import __version__
from reid_iics.config import (
    CITATION,
    PUBLISHED,
    PUBLISHED_WITHOUT_RERANK,
    SOURCE,
    SOURCE_WITHOUT_RERANK,
    Variant,
)

__all__ = ["info_of", "info_of_weights"]


def info_of(variant: Variant, *, rerank: bool = True) -> MethodInfo:
    """Return what is known of a variant.

    Args:
        variant: How the number of clusters is chosen.
        rerank: Whether distances are re-ranked before clustering. Without, figures were published
            of variant ``fixed`` only.
    """
    source, published = SOURCE[variant], PUBLISHED[variant]
    if not rerank:
        source = SOURCE_WITHOUT_RERANK
        published = PUBLISHED_WITHOUT_RERANK if variant == "fixed" else {}
    return MethodInfo(
        name="iics",
        title="IICS",
        version=__version__,
        citation=CITATION,
        source=source,
        published=published,
    )


def info_of_weights(card: Mapping[str, Any]) -> MethodInfo:
    """Return what is known of the variant that weights were trained with.

    Args:
        card: Of a weights file. Official checkpoints do not tell: variant ``fixed``, the paper's.
    """
    variant: Variant = "threshold" if card.get("variant") == "threshold" else "fixed"
    return info_of(variant, rerank=bool(card.get("rerank", True)))
