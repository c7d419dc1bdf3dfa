"""Preparation of data: masks, face crops and restored faces, from what other programs found.

``prepare`` does what the command ``deskpro-prepare`` does, ``check_prepared`` what it does with
``--check``; ``ensure_prepared`` prepares synthetic people. They are imported on their first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reid_deskpro.prepare.config import FaceConfig, ParserConfig, PrepareConfig

if TYPE_CHECKING:
    from reid_deskpro.prepare.recipe import Preparation, check_prepared, ensure_prepared, prepare

__all__ = [
    "FaceConfig",
    "ParserConfig",
    "Preparation",
    "PrepareConfig",
    "check_prepared",
    "ensure_prepared",
    "prepare",
]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name in ("Preparation", "check_prepared", "ensure_prepared", "prepare"):
        from reid_deskpro.prepare import recipe

        return getattr(recipe, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
