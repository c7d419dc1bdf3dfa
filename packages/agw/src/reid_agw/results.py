"""What reports and results say of AGW."""

from __future__ import annotations

from reid_agw import __version__
from reid_agw.config import CITATION, PUBLISHED, SOURCE, SOURCES
from reid_core.commands.results import MethodInfo

__all__ = ["AGW_INFO"]

AGW_INFO = MethodInfo(
    name="agw",
    title="AGW",
    version=__version__,
    citation=CITATION,
    source=SOURCE,
    sources=SOURCES,
    published=PUBLISHED,
)
