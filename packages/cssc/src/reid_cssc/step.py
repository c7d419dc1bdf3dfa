"""One CSSC iteration: one forward pass, the losses of five heads, one optimiser.

Legend: B batch, N identities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reid_core.losses.accuracy import accuracy
from reid_cssc.config import LossConfig
from reid_cssc.losses import identity_losses, triplet_losses
from reid_cssc.model import CSSC, HEADS, CSSCOutput

__all__ = ["TrainingStep"]


class TrainingStep:
    """The training iteration; call it with a batch.

    Args:
        model: The network with training heads, in train mode.
        losses: Settings and first epoch of the terms.
        optimizer: Of the trained parameters.
        autocast: Makes the context of the forward pass, e.g. ``run.autocast``.
        synchronize: Averages the gradients of the given parameters over processes; called before
            the optimiser's step.
    """

    def __init__(
        self,
        model: CSSC,
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

    def __call__(self, images: Tensor, pids: Tensor, epoch: int) -> dict[str, Tensor]:
        """Update the network with one batch.

        Args:
            images: (B, 3, H, W) float, normalised.
            pids: (B,) int64 in 0..N-1.
            epoch: From 0; decides whether the triplet losses are in force.

        Returns:
            The total ``loss``; ``loss_id`` and ``loss_tri``, the sums over all heads; and per head
            ``loss_id_<head>``, ``loss_tri_<head>`` and the accuracy ``acc_<head>`` in [0, 1];
            detached scalars. The triplet losses are logged in every epoch, also before they enter
            the total.
        """
        config = self.losses
        with self._autocast():
            out: CSSCOutput = self.model(images)
        assert out.logits is not None, "the network has training heads and is in train mode"
        identity = identity_losses(out.logits, pids, epsilon=config.label_smoothing)
        triplet = triplet_losses(out.features, pids, margin=config.triplet_margin)
        loss_id, loss_tri = torch.stack(identity).sum(), torch.stack(triplet).sum()
        loss = loss_id + loss_tri if epoch >= config.start_epoch_triplet else loss_id
        self._update(loss)

        terms = {"loss": loss, "loss_id": loss_id, "loss_tri": loss_tri}
        for number, head in enumerate(HEADS):
            terms[f"loss_id_{head}"] = identity[number]
            terms[f"loss_tri_{head}"] = triplet[number]
            terms[f"acc_{head}"] = accuracy(out.logits[number], pids)
        return {name: value.detach() for name, value in terms.items()}

    def _update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature
        self._synchronize(
            parameter for group in self.optimizer.param_groups for parameter in group["params"]
        )
        self.optimizer.step()
