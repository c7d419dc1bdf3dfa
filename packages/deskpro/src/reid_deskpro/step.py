"""One iteration of each stage: a forward pass, the losses of its heads, one optimiser.

Legend: B batch, N identities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reid_core.losses.accuracy import accuracy
from reid_deskpro.batches import PictureBatch
from reid_deskpro.config import LossConfig
from reid_deskpro.lmbn import LMBN, LMBNOutput
from reid_deskpro.loss_recipe import parse_loss_recipe
from reid_deskpro.losses import (
    attention_loss,
    attention_target,
    distillation_losses,
    identity_losses,
    multi_similarity_losses,
    triplet_losses,
)
from reid_deskpro.model import DeskPro, DeskProOutput
from reid_deskpro.stage_config import StreamLossConfig

__all__ = ["DeskProLosses", "StreamLosses", "TeacherStep", "TrainingStep"]

Synchronize = Callable[[Iterable[nn.Parameter]], None]
Autocast = Callable[[], AbstractContextManager[object]]


class StreamLosses(NamedTuple):
    """What the heads of one network have to answer for, each a weighted sum over heads.

    Attributes:
        identity: Of the logits.
        metric: Of the features: triplet or multi-similarity loss.
    """

    identity: Tensor
    metric: Tensor

    @classmethod
    def of(cls, output: LMBNOutput, pids: Tensor, config: StreamLossConfig) -> StreamLosses:
        """Return the losses of a network's output.

        Args:
            output: With logits.
            pids: (B,) int64 in 0..N-1.
            config: Recipe, margin and label smoothing.
        """
        assert output.logits is not None, "a network in training has classifiers"
        identity = metric = output.logits[0].new_zeros(())
        for term in parse_loss_recipe(config.recipe):
            if term.name == "CrossEntropy":
                found = identity_losses(output.logits, pids, epsilon=config.label_smoothing)
                identity = identity + term.weight * _sum(found)
            elif term.name == "Triplet":
                metric = metric + term.weight * _sum(
                    triplet_losses(output.features, pids, margin=config.margin)
                )
            else:
                metric = metric + term.weight * _sum(
                    multi_similarity_losses(output.features, pids, margin=config.margin)
                )
        return cls(identity, metric)


class DeskProLosses(NamedTuple):
    """The terms of one batch; those of a stream or a teacher that there is not are None.

    Attributes:
        face: Of the face stream.
        body: Of the body stream.
        distill: Sum over heads of what the face stream has yet to learn from the teacher.
        attention: Squared difference of the body's attention and the mask.
    """

    face: StreamLosses | None
    body: StreamLosses | None
    distill: Tensor | None
    attention: Tensor | None

    @classmethod
    def of(
        cls, output: DeskProOutput, masks: Tensor | None, pids: Tensor, config: LossConfig
    ) -> DeskProLosses:
        """Return the terms of a network's output.

        Args:
            output: Of a network in training.
            masks: (B, 1 or 3, H, W) float in [0, 1]; needed where there is a body stream.
            pids: (B,) int64 in 0..N-1.
            config: Settings of the terms.
        """
        face = body = distill = attention = None
        if output.face is not None:
            face = StreamLosses.of(output.face, pids, config)
            if output.teacher_logits is not None:
                assert output.face.logits is not None, "a network in training has classifiers"
                distill = _sum(
                    distillation_losses(
                        output.face.logits, output.teacher_logits, temperature=config.temperature
                    )
                )
        if output.body is not None:
            assert output.body.attention is not None, "the body stream has an attention"
            assert masks is not None, "the body stream is trained with masks"
            body = StreamLosses.of(output.body, pids, config)
            found = output.body.attention
            target = attention_target(
                masks, (found.shape[2], found.shape[3]), floor=config.mask_floor
            )
            attention = attention_loss(found, target)
        return cls(face, body, distill, attention)

    def total(self, config: LossConfig) -> Tensor:
        """Return what is minimised.

        (1 - alpha) CE_face + tau Tri_face + alpha KD + CE_body + Tri_body + w L_attention, all of
        them sums over heads. Without a teacher the face stream counts as the body stream does
        (official: the factor 1 - alpha fell on the body's heads where that is the only stream, and
        the distillation was added even where it was switched off).
        """
        terms = []
        if self.face is not None and self.distill is not None:
            terms += [
                (1 - config.alpha) * self.face.identity,
                config.face_metric_weight * self.face.metric,
                config.alpha * self.distill,
            ]
        elif self.face is not None:
            terms += self.face
        if self.body is not None and self.attention is not None:
            terms += [*self.body, config.attention_weight * self.attention]
        return torch.stack(terms).sum()

    def terms(self) -> dict[str, Tensor]:
        """Return the terms by the names under which they are logged."""
        named: dict[str, Tensor | None] = {}
        for stream, losses in (("face", self.face), ("body", self.body)):
            if losses is not None:
                named[f"loss_id_{stream}"] = losses.identity
                named[f"loss_metric_{stream}"] = losses.metric
        named["loss_distill"] = self.distill
        named["loss_attention"] = self.attention
        return {name: value for name, value in named.items() if value is not None}


class TrainingStep:
    """The iteration of stage 2; call it with a batch.

    Args:
        model: The network with classifiers, in train mode.
        losses: Settings of the terms.
        optimizer: Of the trained parameters.
        autocast: Makes the context of the forward pass, e.g. ``run.autocast``.
        synchronize: Averages the gradients of the given parameters over processes; called before
            the optimiser's step.
    """

    def __init__(
        self,
        model: DeskPro,
        losses: LossConfig,
        optimizer: Optimizer,
        *,
        autocast: Autocast = nullcontext,
        synchronize: Synchronize = lambda parameters: None,
    ) -> None:
        self.model = model
        self.losses = losses
        self.optimizer = optimizer
        self._autocast = autocast
        self._synchronize = synchronize

    def __call__(self, batch: PictureBatch) -> dict[str, Tensor]:
        """Update the network with one batch.

        Args:
            batch: With what the streams need: face crops, masks, and restored faces for a teacher.

        Returns:
            The total ``loss``; per stream ``loss_id_<stream>`` and ``loss_metric_<stream>``, the
            sums over its heads; ``loss_distill`` and ``loss_attention``, all without their weights;
            the accuracy ``acc_<stream>`` of the first head in [0, 1]; detached scalars.
        """
        with self._autocast():
            output: DeskProOutput = self.model(batch.images, batch.lr_face, batch.hr_face)
        losses = DeskProLosses.of(output, batch.masks, batch.pids, self.losses)
        loss = losses.total(self.losses)
        _update(loss, self.optimizer, self._synchronize)
        terms = {"loss": loss, **losses.terms()}
        for stream, found in (("face", output.face), ("body", output.body)):
            if found is not None and found.logits is not None:
                terms[f"acc_{stream}"] = accuracy(found.logits[0], batch.pids)
        return {name: value.detach() for name, value in terms.items()}


class TeacherStep:
    """The iteration of stage 1; call it with a batch of restored faces.

    Args:
        model: The teacher, in train mode.
        losses: Settings of the terms.
        optimizer: Of its parameters.
        autocast: As in ``TrainingStep``.
        synchronize: As in ``TrainingStep``.
    """

    def __init__(
        self,
        model: LMBN,
        losses: StreamLossConfig,
        optimizer: Optimizer,
        *,
        autocast: Autocast = nullcontext,
        synchronize: Synchronize = lambda parameters: None,
    ) -> None:
        self.model = model
        self.losses = losses
        self.optimizer = optimizer
        self._autocast = autocast
        self._synchronize = synchronize

    def __call__(self, faces: Tensor, pids: Tensor) -> dict[str, Tensor]:
        """Update the teacher with one batch.

        Args:
            faces: (B, 3, h, w) float, normalised restored faces.
            pids: (B,) int64 in 0..N-1.

        Returns:
            The total ``loss``; ``loss_id`` and ``loss_metric``, the sums over heads; the accuracy
            ``acc_id`` of the first head in [0, 1]; detached scalars.
        """
        with self._autocast():
            output: LMBNOutput = self.model(faces)
        losses = StreamLosses.of(output, pids, self.losses)
        loss = losses.identity + losses.metric
        _update(loss, self.optimizer, self._synchronize)
        assert output.logits is not None, "a network in training has classifiers"
        terms = {
            "loss": loss,
            "loss_id": losses.identity,
            "loss_metric": losses.metric,
            "acc_id": accuracy(output.logits[0], pids),
        }
        return {name: value.detach() for name, value in terms.items()}


def _update(loss: Tensor, optimizer: Optimizer, synchronize: Synchronize) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature
    synchronize(parameter for group in optimizer.param_groups for parameter in group["params"])
    optimizer.step()


def _sum(losses: Sequence[Tensor]) -> Tensor:
    return torch.stack(tuple(losses)).sum()
