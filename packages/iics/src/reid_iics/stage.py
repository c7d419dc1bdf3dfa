"""What lives for one stage only: its labels, heads and optimiser, as a part of the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim import SGD

from reid_core.engine import broadcast_module
from reid_core.errors import CheckpointError
from reid_iics.config import IICSConfig
from reid_iics.cycle import Place, StageName
from reid_iics.model import IICS, Heads
from reid_iics.pseudo_labels import PseudoLabels
from reid_iics.schedule import inter_lr
from reid_iics.step import build_optimizer

__all__ = ["Stage"]


class Stage:
    """The stage that is being trained; tracked by the run, so that a stopped one goes on inside it.

    Attributes:
        name: ``intra`` or ``inter``.
        first: First epoch of the stage; -1 before the first stage.
        labels: Clusters: of each camera, or one set of all images.
        num_images: How many training images there are, clustered or not.
        heads: A head per set of clusters.
        optimizer: Of network and heads.

    Args:
        model: The network, on its device.
        config: The run's settings.
    """

    heads: Heads
    optimizer: SGD

    def __init__(self, model: IICS, config: IICSConfig) -> None:
        self._model = model
        self._config = config
        self.name: StageName = "intra"
        self.first = -1
        self.labels: Sequence[PseudoLabels] = ()
        self.num_images = 0

    def begin(self, place: Place, labels: Sequence[PseudoLabels], *, num_images: int) -> None:
        """Make heads and an optimiser anew (official: momentum is not carried over).

        Args:
            place: The stage's first epoch.
            labels: Its clusters.
            num_images: How many training images there are.
        """
        self._begin(place.stage, place.first, labels)
        self.num_images = num_images
        broadcast_module(self.heads)

    def state_dict(self) -> dict[str, Any]:
        """Return everything of the stage as tensors and plain values."""
        state: dict[str, Any] = {"name": self.name, "first": self.first}
        if self.first >= 0:
            state["labels"] = [_pack(part) for part in self.labels]
            state["num_images"] = self.num_images
            state["heads"] = self.heads.state_dict()
            state["optimizer"] = self.optimizer.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the stage of a stopped run."""
        if state["first"] < 0:
            return
        labels = [_unpack(values) for values in state["labels"]]
        self._begin(state["name"], state["first"], labels)
        self.num_images = state["num_images"]
        self.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])

    def require_images(self, num_images: int) -> None:
        """Refuse to go on inside the stage with other images: labels go by places in their list.

        Args:
            num_images: How many training images there are now.

        Raises:
            CheckpointError: When they are not as many as were clustered.
        """
        if num_images != self.num_images:
            raise CheckpointError(
                f"the run was stopped inside a stage with labels of {self.num_images:,} training "
                f"images, and {num_images:,} can be read now (data.skip_corrupt leaves others "
                "out); make the same files readable as before, or start a new run with another "
                "--out"
            )

    def _begin(self, name: StageName, first: int, labels: Sequence[PseudoLabels]) -> None:
        self.name, self.first, self.labels = name, first, tuple(labels)
        sizes = [part.num_clusters for part in labels]
        device = next(self._model.parameters()).device
        self.heads = Heads(self._model.embedding_dim, sizes).to(device)
        lr, optim = self._config.optim.lr, self._config.optim
        if name == "inter":
            lr = inter_lr(lr, self._config.inter.batch_size)
        self.optimizer = build_optimizer(
            self._model,
            self.heads,
            lr=lr,
            weight_decay=optim.weight_decay,
            backbone_factor=optim.backbone_factor,
        )


def _pack(labels: PseudoLabels) -> dict[str, Any]:
    return {
        "images": torch.from_numpy(labels.images),
        "labels": torch.from_numpy(labels.labels),
        "num_clusters": labels.num_clusters,
        "camid": labels.camid,
        "threshold": labels.threshold,
    }


def _unpack(values: Mapping[str, Any]) -> PseudoLabels:
    return PseudoLabels(
        images=values["images"].numpy(),
        labels=values["labels"].numpy(),
        num_clusters=values["num_clusters"],
        camid=values["camid"],
        threshold=values["threshold"],
    )
