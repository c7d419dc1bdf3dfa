"""What reports and results say of CSSC."""

from __future__ import annotations

from reid_core.commands.results import MethodInfo
from reid_cssc import __version__
from reid_cssc.config import CITATION, PUBLISHED, SOURCE

__all__ = ["CSSC_INFO"]

CSSC_INFO = MethodInfo(
    name="cssc",
    title="CSSC",
    version=__version__,
    citation=CITATION,
    source=SOURCE,
    published=PUBLISHED,
)
