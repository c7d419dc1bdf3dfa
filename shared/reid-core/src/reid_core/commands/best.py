"""Which evaluation of a training was best on the test set, and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from reid_core.commands.training_settings import EPOCHS, Rounds
from reid_core.engine.run import Run
from reid_core.engine.weights import Weights, read_weights, save_weights
from reid_core.evaluation.evaluator import Evaluation
from reid_core.rounding import percent

__all__ = ["BestOnTest", "BestWeights"]


class BestOnTest(Protocol):
    """What the results of a run say of its best evaluation on the test set."""

    def state_dict(self) -> dict[str, Any]:
        """Return epoch and figures of the best evaluation, as plain values."""

    def describe(self, *, selected: bool) -> dict[str, str]:
        """Return which weights are the run's, and how good the best ones were, for people.

        Args:
            selected: Whether the best weights are the run's.
        """


class BestWeights:
    """Remembers the evaluation that was best on the TEST set, and its weights if they are wanted.

    The published figures were selected so; there is no validation set. Judged by the rank-1 of the
    cloth-changing protocol, or of the first one where there is none.

    Args:
        run: The run; its folder receives ``best.safetensors``.
        method: Name of the method, e.g. ``aim``.
        keep: Whether the weights are wanted.
        rounds: What the training is counted by.
    """

    def __init__(self, run: Run, method: str, *, keep: bool, rounds: Rounds = EPOCHS) -> None:
        self._run = run
        self._rounds = rounds
        self._method = method
        self._keep = keep
        self._state: dict[str, Any] = {"epoch": -1, "rank1": -1.0, "results": {}}

    def offer(self, evaluation: Evaluation, epoch: int, weights: Weights) -> None:
        """Take an evaluation into account; ties go to the earlier epoch.

        Args:
            evaluation: The evaluation.
            epoch: Epoch just finished, from 0.
            weights: The test-time network, and what ``load_network`` must know of it.
        """
        summary = evaluation.summary()
        names = [name for name in summary if name.endswith("/cloth_changing")] or list(summary)
        rank1 = float(summary[names[0]]["rank1"])
        if rank1 <= self._state["rank1"]:
            return
        self._state = {"epoch": epoch, "rank1": rank1, "results": summary}
        if self._keep and self._run.is_main:
            save_weights(self._path, weights.state_dict, weights.card)

    def weights(self) -> dict[str, Tensor]:
        """Return the state dict of the best evaluation; only where weights are kept."""
        with self._run.main_first():
            return read_weights(self._path, method=self._method).state_dict

    def state_dict(self) -> dict[str, Any]:
        """Return epoch, rank-1 in [0, 1] and all figures of the best evaluation."""
        return dict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state of a stopped run."""
        self._state = dict(state)

    def describe(self, *, selected: bool) -> dict[str, str]:
        """Return which weights are the run's, and how good the best ones were, for people.

        Args:
            selected: Whether the best weights are the run's.
        """
        name, rank1 = self._rounds.name, self._state["rank1"]
        number = self._rounds.number(self._state["epoch"] + 1)
        if selected:
            return {"weights": f"best on the TEST set ({name} {number})"}
        if not self._state["results"]:
            return {"weights": f"last {name}"}
        found = f"rank-1 {percent(rank1)}% after {name} {number}, for comparison only"
        return {"weights": f"last {name}", "best on the TEST set": found}

    @property
    def _path(self) -> Path:
        return self._run.folder / "best.safetensors"
