"""The iterations of both stages, and their optimiser.

Legend: B batch, K classes of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from reid_core.losses.accuracy import accuracy
from reid_iics.losses import identity_loss, triplet_loss
from reid_iics.model import IICS, Head, Heads

__all__ = ["InterStep", "IntraStep", "build_optimizer"]

_MOMENTUM = 0.9  # official, whatever its flag says

Autocast = Callable[[], AbstractContextManager[object]]
Synchronize = Callable[[Iterable[nn.Parameter]], None]


def build_optimizer(
    model: IICS, heads: nn.Module, *, lr: float, weight_decay: float, backbone_factor: float = 0.1
) -> SGD:
    """Build the optimiser of a stage: SGD with momentum 0.9, not Nesterov's.

    Weight decay is on everything trained, normalisation and mixing weights included (official).

    Args:
        model: The backbone.
        heads: Those of the stage; their frozen shifts are left out.
        lr: Learning rate of the heads, constant; see ``reid_iics.schedule.inter_lr``.
        weight_decay: L2 weight decay, 5e-4 in the official code.
        backbone_factor: Learning rate of the backbone as a share of ``lr``; official value.
    """
    groups = [
        {"params": _trained(model), "lr": lr * backbone_factor},
        {"params": _trained(heads), "lr": lr},
    ]
    return SGD(groups, lr=lr, momentum=_MOMENTUM, weight_decay=weight_decay)


class IntraStep:
    """An iteration of the intra-camera stage; call it with a batch of each camera.

    Every camera's batch passes the network on its own, so that statistics are those of one camera;
    running statistics are updated once per camera, in the order of the heads. The losses are
    summed, not averaged. Each camera's gradient is added before the next camera's pass, so only one
    batch's activations are held; the update is the same as from the sum.

    Args:
        model: The backbone, in train mode.
        heads: One per camera, in train mode.
        optimizer: Of both, from ``build_optimizer``.
        loss_factor: Of the summed loss; the official ``--warm_up`` cycles have 0.1.
        autocast: Makes the context of the forward pass, e.g. ``run.autocast``.
        synchronize: Averages the gradients of the given parameters over processes; called before
            the optimiser's step.
    """

    def __init__(
        self,
        model: IICS,
        heads: Heads,
        optimizer: Optimizer,
        *,
        loss_factor: float = 1.0,
        autocast: Autocast = nullcontext,
        synchronize: Synchronize = lambda parameters: None,
    ) -> None:
        self.model = model
        self.heads = heads
        self.optimizer = optimizer
        self.loss_factor = loss_factor
        self._autocast = autocast
        self._synchronize = synchronize

    def __call__(self, images: Sequence[Tensor], labels: Sequence[Tensor]) -> dict[str, Tensor]:
        """Update backbone and heads with one batch of each camera.

        Args:
            images: (B, 3, H, W) float, normalised; one per head, in its order.
            labels: (B,) int64 in 0..K-1 of that head.

        Returns:
            The ``loss``, summed over the cameras, and per camera k, counted as the heads are,
            ``loss_camera_<k>``, both before ``loss_factor``; and ``acc``, the mean accuracy in
            [0, 1]. Detached scalars.
        """
        self.optimizer.zero_grad(set_to_none=True)
        losses, accuracies = [], []
        for head, batch, targets in zip(self.heads, images, labels, strict=True):
            with self._autocast():
                logits: Tensor = head(self.model(batch))
            loss = identity_loss(logits, targets)
            _backward(self.loss_factor * loss)
            losses.append(loss.detach())
            accuracies.append(accuracy(logits.detach(), targets))
        _update(self.optimizer, self._synchronize)

        terms = {"loss": torch.stack(losses).sum(), "acc": torch.stack(accuracies).mean()}
        terms.update({f"loss_camera_{number}": loss for number, loss in enumerate(losses)})
        return terms


class InterStep:
    """An iteration of the inter-camera stage; call it with a batch of all cameras.

    Args:
        model: The backbone, in train mode.
        head: Of all clusters, in train mode.
        optimizer: Of both, from ``build_optimizer``.
        margin: Of the triplet loss, in units of the features.
        loss_factor: Of the total loss; the official ``--warm_up`` cycles have 0.1.
        autocast: Makes the context of the forward pass, e.g. ``run.autocast``.
        synchronize: As in ``IntraStep``.
    """

    def __init__(
        self,
        model: IICS,
        head: Head,
        optimizer: Optimizer,
        *,
        margin: float = 0.3,
        loss_factor: float = 1.0,
        autocast: Autocast = nullcontext,
        synchronize: Synchronize = lambda parameters: None,
    ) -> None:
        self.model = model
        self.head = head
        self.optimizer = optimizer
        self.margin = margin
        self.loss_factor = loss_factor
        self._autocast = autocast
        self._synchronize = synchronize

    def __call__(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Update backbone and head with one batch.

        Args:
            images: (B, 3, H, W) float, normalised.
            labels: (B,) int64 in 0..K-1.

        Returns:
            The ``loss``, its terms ``loss_id`` and ``loss_tri``, all before ``loss_factor``; the
            accuracy ``acc`` of the head and the ``precision`` of the triplets, in [0, 1]. Detached
            scalars.
        """
        with self._autocast():
            features = self.model(images)
            logits = self.head(features)
        loss_id = identity_loss(logits, labels)
        loss_tri, precision = triplet_loss(features, labels, margin=self.margin)
        loss = loss_id + loss_tri
        self.optimizer.zero_grad(set_to_none=True)
        _backward(self.loss_factor * loss)
        _update(self.optimizer, self._synchronize)

        terms = {"loss": loss, "loss_id": loss_id, "loss_tri": loss_tri}
        terms.update(acc=accuracy(logits, labels), precision=precision)
        return {name: value.detach() for name, value in terms.items()}


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature


def _update(optimizer: Optimizer, synchronize: Synchronize) -> None:
    synchronize(parameter for group in optimizer.param_groups for parameter in group["params"])
    optimizer.step()
