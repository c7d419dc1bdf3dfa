"""What reports and results say of DeskPro."""

from __future__ import annotations

from reid_core.commands.results import MethodInfo
from reid_core.evaluation.evaluator import Evaluation
from reid_core.rounding import percent
from reid_deskpro import __version__
from reid_deskpro.config import CITATION, PUBLISHED, SOURCE

__all__ = ["DESKPRO_INFO", "TEACHER_INFO", "compare_streams"]

DESKPRO_INFO = MethodInfo(
    name="deskpro",
    title="DeskPro",
    version=__version__,
    citation=CITATION,
    source=SOURCE,
    published=PUBLISHED,
)

TEACHER_INFO = MethodInfo(
    name="deskpro",
    title="DeskPro's teacher, on restored faces",
    version=__version__,
    citation=CITATION,
    source=SOURCE,
    published={},
)


def compare_streams(evaluation: Evaluation) -> dict[str, str]:
    """Say of every protocol whether both streams together are better than either alone.

    Args:
        evaluation: Of a network with both streams, as the main process has it.

    Returns:
        Protocol name to a sentence with the mAP of all three; empty where there is one stream only.
    """
    found = {}
    for number, result in enumerate(evaluation.results):
        together = result.summary()["mAP"]
        alone = {
            name.removesuffix(" stream"): results[number].summary()["mAP"]
            for name, results in evaluation.variants.items()
            if name.endswith(" stream")
        }
        if len(alone) < 2:
            continue
        ahead = [name for name, value in alone.items() if value >= together]
        verdict = f"NOT above {' and '.join(ahead)} alone" if ahead else "above either stream alone"
        figures = ", ".join(f"{name} {percent(value)}%" for name, value in alone.items())
        found[result.protocol.name] = f"mAP {percent(together)}% together ({figures}): {verdict}"
    return found
