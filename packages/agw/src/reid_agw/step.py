"""One AGW iteration: both modalities in one forward pass, two losses, one optimiser.

Legend: B people with P visible and P infrared images each, N identities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn
from torch.optim import Optimizer

from reid_agw.config import LossConfig
from reid_agw.losses import TripletOutput, batch_hard, weighted_regularized_triplet
from reid_agw.model import AGW, AGWOutput
from reid_core.losses.accuracy import accuracy
from reid_core.losses.cross_entropy import label_smoothing_cross_entropy

__all__ = ["TrainingStep"]


class TrainingStep:
    """The training iteration; call it with a batch.

    Args:
        model: The network with a classifier, in train mode.
        losses: Kind of the triplet loss.
        optimizer: Of the trained parameters.
        autocast: Makes the context of the forward pass, e.g. ``run.autocast``.
        synchronize: Averages the gradients of the given parameters over processes; called before
            the optimiser's step.
    """

    def __init__(
        self,
        model: AGW,
        losses: LossConfig,
        optimizer: Optimizer,
        *,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        synchronize: Callable[[Iterable[nn.Parameter]], None] = lambda parameters: None,
    ) -> None:
        self.model = model
        self.losses = losses
        self.optimizer = optimizer
        self._autocast = autocast
        self._synchronize = synchronize

    def __call__(self, images: Tensor, pids: Tensor) -> dict[str, Tensor]:
        """Update the network with one batch.

        Args:
            images: (2BP, 3, H, W) float, normalised; the visible ones first, as
                ``CrossModalitySampler`` orders them.
            pids: (2BP,) int64 in 0..N-1.

        Returns:
            The total ``loss``, its parts ``loss_id`` and ``loss_tri``, the accuracy ``acc_id`` of
            the classifier and ``acc_tri``, the share of anchors whose negatives are not nearer than
            their positives, both in [0, 1]; detached scalars.
        """
        with self._autocast():
            out: AGWOutput = self.model(images)
        assert out.logits is not None, "the network has a classifier and is in train mode"
        identity = label_smoothing_cross_entropy(out.logits, pids, epsilon=0.0)
        triplet = self._triplet(out.features, pids)
        loss = identity + triplet.loss
        self._update(loss)

        terms = {
            "loss": loss,
            "loss_id": identity,
            "loss_tri": triplet.loss,
            "acc_id": accuracy(out.logits, pids),
            "acc_tri": triplet.correct / len(pids),
        }
        return {name: value.detach() for name, value in terms.items()}

    def _triplet(self, features: Tensor, pids: Tensor) -> TripletOutput:
        if self.losses.triplet == "wrt":
            return weighted_regularized_triplet(features, pids)
        return batch_hard(features, pids, margin=self.losses.margin)

    def _update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature
        self._synchronize(
            parameter for group in self.optimizer.param_groups for parameter in group["params"]
        )
        self.optimizer.step()
