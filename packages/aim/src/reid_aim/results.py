"""What a training of AIM leaves: the weights that count, the figures, the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from reid_aim import __version__
from reid_aim.config import CITATION, PUBLISHED, SOURCE, AIMConfig
from reid_aim.loading import network_card
from reid_aim.model import IDBranch
from reid_core.commands.console import say
from reid_core.commands.results import MethodInfo, Outcome, publish
from reid_core.data.fingerprint import fingerprint
from reid_core.engine import Run, read_weights, save_weights
from reid_core.engine.folder import METRICS_NAME
from reid_core.engine.weights import WEIGHTS_NAME
from reid_core.evaluation.evaluator import Evaluation
from reid_core.report import read_metrics

__all__ = ["AIM_INFO", "BestWeights", "write_results"]

AIM_INFO = MethodInfo(
    name="aim",
    title="AIM",
    version=__version__,
    citation=CITATION,
    source=SOURCE,
    published=PUBLISHED,
)


class BestWeights:
    """Remembers the evaluation that was best on the TEST set, and its weights if they are wanted.

    The published figures were selected so; there is no validation set. Judged by the rank-1 of the
    cloth-changing protocol, or of the first one where there is none.

    Args:
        run: The run; its folder receives ``best.safetensors``.
        config: Keeps weights only for ``select="best"``.
    """

    def __init__(self, run: Run, config: AIMConfig) -> None:
        self._run = run
        self._config = config
        self._state: dict[str, Any] = {"epoch": -1, "rank1": -1.0, "results": {}}

    def offer(self, evaluation: Evaluation, epoch: int, network: IDBranch) -> None:
        """Take an evaluation into account; ties go to the earlier epoch."""
        summary = evaluation.summary()
        names = [name for name in summary if name.endswith("/cloth_changing")] or list(summary)
        rank1 = float(summary[names[0]]["rank1"])
        if rank1 <= self._state["rank1"]:
            return
        self._state = {"epoch": epoch, "rank1": rank1, "results": summary}
        if self._config.select == "best" and self._run.is_main:
            save_weights(self._path, network.state_dict(), network_card(self._config, network))

    def load_into(self, network: IDBranch) -> None:
        """Give a network the best weights."""
        with self._run.main_first():
            network.load_state_dict(read_weights(self._path, method="aim").state_dict)

    def state_dict(self) -> dict[str, Any]:
        """Return epoch, rank-1 in [0, 1] and all figures of the best evaluation."""
        return dict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state of a stopped run."""
        self._state = dict(state)

    @property
    def _path(self) -> Path:
        return self._run.folder / "best.safetensors"


def write_results(run: Run, outcome: Outcome, network: IDBranch, config: AIMConfig) -> None:
    """Write weights, results and report, and print the table."""
    metrics = read_metrics(run.folder / METRICS_NAME)
    earlier = [record for record in metrics if record["kind"] == "eval" and record["epoch"] == -1]
    seconds = sum(record["timing"]["seconds"] for record in metrics if record["kind"] == "train")
    card = {
        **network_card(config, network),
        "dataset": outcome.dataset.name,
        "synthetic": outcome.dataset.synthetic,
        "fingerprint": fingerprint(outcome.dataset),
        **outcome.details,
        "results": outcome.evaluation.summary(),
    }
    files = [save_weights(run.folder / WEIGHTS_NAME, network.state_dict(), card)]
    outcome = replace(
        outcome,
        earlier=earlier[0]["results"] if earlier else {},
        metrics=metrics,
        facts={**outcome.facts, "training": f"{seconds:,.0f} s in {config.epochs} epochs"},
    )
    files += publish(run.folder, AIM_INFO, outcome)
    for path in files:
        say(f"wrote {path}")
