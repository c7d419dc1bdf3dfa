"""The epochs in which each stream was best on the test set, and both streams of these epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from reid_core.engine import Run
from reid_core.engine.weights import Weights, read_weights, save_weights
from reid_core.evaluation.evaluator import Evaluation
from reid_core.evaluation.protocol_result import ProtocolResult
from reid_core.rounding import percent

__all__ = ["BestStreams"]

_NETWORKS = {"face": "lr_face_net", "body": "nocloth_net"}


class BestStreams:
    """Remembers in which epoch each stream was best on the TEST set, and keeps its weights.

    The published protocol: there is no validation set; after every fifth epoch each stream is
    judged by its own mAP on the test set, and the figures are those of the best face stream beside
    the best body stream, which need not be of one epoch. Where there is a cloth-changing protocol
    it is the judge, else the first one.

    Args:
        run: The run; its folder receives ``best-face.safetensors`` and ``best-body.safetensors``.
        streams: The streams of the network.
    """

    def __init__(self, run: Run, streams: Sequence[str]) -> None:
        self._run = run
        self._streams = tuple(streams)
        self._state: dict[str, Any] = {
            "streams": {name: {"epoch": -1, "mAP": -1.0} for name in self._streams},
            "results": {},
        }

    def offer(self, evaluation: Evaluation, epoch: int, weights: Weights) -> None:
        """Take an evaluation into account; ties go to the earlier epoch.

        Args:
            evaluation: The evaluation, as the main process has it; others need not call this.
            epoch: Epoch just finished, from 0.
            weights: The test-time network, and what ``load_network`` must know of it.
        """
        if not self._run.is_main:
            return
        for stream in self._streams:
            mean_ap = float(_judge(_results_of(evaluation, stream)).summary()["mAP"])
            if mean_ap <= self._state["streams"][stream]["mAP"]:
                continue
            start = f"{_NETWORKS[stream]}."
            own = {key: value for key, value in weights.state_dict.items() if key.startswith(start)}
            save_weights(self._path(stream), own, weights.card)
            self._state["streams"][stream] = {"epoch": epoch, "mAP": mean_ap}

    def is_of(self, epoch: int) -> bool:
        """Tell whether all streams were best in this epoch; on the main process only."""
        return all(found["epoch"] == epoch for found in self._state["streams"].values())

    def weights(self) -> dict[str, Tensor]:
        """Return the state dict of the best streams together."""
        state: dict[str, Tensor] = {}
        with self._run.main_first():
            for stream in self._streams:
                state |= read_weights(self._path(stream), method="deskpro").state_dict
        return state

    def note(self, evaluation: Evaluation) -> None:
        """Remember the figures of the best streams together."""
        self._state["results"] = evaluation.summary()

    def state_dict(self) -> dict[str, Any]:
        """Return epoch and mAP in [0, 1] of each stream, and the figures of both together."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a stopped run."""
        self._state = dict(state)

    def describe(self, *, selected: bool) -> dict[str, str]:
        """Return which weights are the run's, and how good the best streams were, for people.

        Args:
            selected: Whether the best streams are the run's weights.
        """
        epochs = ", ".join(
            f"{name} epoch {found['epoch'] + 1}" for name, found in self._state["streams"].items()
        )
        if selected:
            return {"weights": f"best on the TEST set ({epochs})"}
        figures = "; ".join(
            f"{name} rank-1 {percent(found['rank1'])}%, mAP {percent(found['mAP'])}%"
            for name, found in self._state["results"].items()
        )
        return {
            "weights": "last epoch",
            "best on the TEST set": f"{figures} ({epochs}), for comparison only",
        }

    def _path(self, stream: str) -> Path:
        return self._run.folder / f"best-{stream}.safetensors"


def _results_of(evaluation: Evaluation, stream: str) -> Sequence[ProtocolResult]:
    """Return the results of a stream: those of the whole where it is the only one."""
    return evaluation.variants.get(f"{stream} stream", evaluation.results)


def _judge(results: Sequence[ProtocolResult]) -> ProtocolResult:
    changing = [item for item in results if item.protocol.name.endswith("/cloth_changing")]
    return (changing or list(results))[0]
