"""What reports and results say of AIM."""

from __future__ import annotations

from reid_aim import __version__
from reid_aim.config import CITATION, PUBLISHED, SOURCE
from reid_core.commands.results import MethodInfo

__all__ = ["AIM_INFO"]

AIM_INFO = MethodInfo(
    name="aim",
    title="AIM",
    version=__version__,
    citation=CITATION,
    source=SOURCE,
    published=PUBLISHED,
)
