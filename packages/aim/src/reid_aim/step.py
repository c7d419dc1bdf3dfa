"""One AIM iteration: one forward pass, three optimisers, in the official order.

Legend: B batch, N identities, M outfits (clothes classes), D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer

from reid_aim.config import LossConfig
from reid_aim.losses import (
    clothes_loss,
    counterfactual_logits,
    identity_loss,
    pair_loss,
    symmetric_kl,
)
from reid_aim.model import AIM
from reid_core.config import OptimConfig
from reid_core.engine.optimizers import build_optimizer
from reid_core.losses import clothes_adversarial, gather_gallery
from reid_core.losses.accuracy import accuracy

__all__ = ["AIMOptimizers", "TrainingStep", "build_optimizers"]


class AIMOptimizers(NamedTuple):
    """The three optimisers of the official code.

    Attributes:
        main: Identity branch, fusion and identity classifier.
        clothes_branch: Clothing branch and its clothes classifier.
        clothes_classifier: The clothes classifier on the identity feature. It has no schedule.
    """

    main: Optimizer
    clothes_branch: Optimizer
    clothes_classifier: Optimizer


def build_optimizers(model: AIM, config: OptimConfig) -> AIMOptimizers:
    """Build the three optimisers; one learning rate and decay for every parameter (official)."""

    def build(*modules: nn.Module) -> Optimizer:
        parameters = [parameter for module in modules for parameter in module.parameters()]
        return build_optimizer(parameters, config)

    return AIMOptimizers(
        main=build(model.model, model.fuse, model.classifier),
        clothes_branch=build(model.model2, model.clothes_classifier2),
        clothes_classifier=build(model.clothes_classifier),
    )


class TrainingStep:
    """The training iteration; call it with a batch.

    Args:
        model: The six modules, in train mode.
        losses: Terms, weights and first epochs.
        optimizers: From ``build_optimizers``.
        pid2clothes: (N, M) bool, which outfits belong to which identity, on the model's device.
        autocast: Makes the context of the forward pass, e.g. ``run.autocast``.
        synchronize: Averages the gradients of the given parameters over processes; called before
            each optimiser's step.
    """

    def __init__(
        self,
        model: AIM,
        losses: LossConfig,
        optimizers: AIMOptimizers,
        pid2clothes: Tensor,
        *,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        synchronize: Callable[[Iterable[nn.Parameter]], None] = lambda parameters: None,
    ) -> None:
        self.model = model
        self.losses = losses
        self.optimizers = optimizers
        self.pid2clothes = pid2clothes.bool()
        self._autocast = autocast
        self._synchronize = synchronize

    def __call__(
        self, images: Tensor, pids: Tensor, clothes_ids: Tensor, epoch: int
    ) -> dict[str, Tensor]:
        """Update all modules with one batch.

        Every loss sees activations from before any backbone's update; the adversarial and the KL
        term see the clothes classifier after its update.

        Args:
            images: (B, 3, H, W) float, normalised.
            pids: (B,) int64 in 0..N-1.
            clothes_ids: (B,) int64 in 0..M-1.
            epoch: From 0; decides which terms are in force.

        Returns:
            Every term before weighting (``loss_id``, ``loss_deb``, ``loss_pair``, ``loss_adv``,
            ``loss_clo``, ``loss_clo2``, ``loss_kl``), the totals ``loss`` (identity side) and
            ``loss2`` (clothing side), and accuracies in [0, 1]; detached scalars. Terms are logged
            in every epoch, also before they enter the totals.
        """
        config, model = self.losses, self.model
        debias = epoch >= config.start_epoch_adv
        follow_clothes = epoch >= config.start_epoch_cc
        with self._autocast():
            out = model(images)

        # The clothes classifier learns on detached features, before anybody uses it.
        loss_clo = self._clothes_loss(out.clothes_logits, clothes_ids)
        if follow_clothes:
            self._update(self.optimizers.clothes_classifier, loss_clo)
        clothes_logits = model.clothes_classifier(out.features)

        # Clothing branch: its own outfits, and the identity feature's view of them.
        loss_clo2 = self._clothes_loss(out.clothes_logits2, clothes_ids)
        loss_kl = symmetric_kl(out.clothes_logits2, clothes_logits, reduction=config.kl_reduction)
        loss2 = loss_clo2 + config.k_kl * loss_kl if follow_clothes else loss_clo2
        self._update(self.optimizers.clothes_branch, loss2)

        # Identity side: identity, what is left of it without the clothes' suggestion, adversary.
        loss_id = self._identity_loss(out.logits, pids)
        loss_deb = self._identity_loss(counterfactual_logits(out.logits, out.fused_logits), pids)
        loss_pair = self._pair_loss(out.features, pids)
        loss_adv = clothes_adversarial(
            clothes_logits,
            clothes_ids,
            self.pid2clothes[pids],
            scale=config.clothes_scale,
            epsilon=config.adv_epsilon,
        )
        loss = loss_id + config.pair_weight * loss_pair
        if debias:
            loss = loss + config.k_cal * loss_deb + config.adv_weight * loss_adv
        self._update(self.optimizers.main, loss)

        terms = {
            "loss": loss,
            "loss_id": loss_id,
            "loss_deb": loss_deb,
            "loss_adv": loss_adv,
            "loss_pair": loss_pair,
            "loss2": loss2,
            "loss_clo": loss_clo,
            "loss_clo2": loss_clo2,
            "loss_kl": loss_kl,
            "acc_id": accuracy(out.logits, pids),
            "acc_id_from_clothes": accuracy(out.fused_logits, pids),
            "acc_clothes": accuracy(clothes_logits, clothes_ids),
            "acc_clothes2": accuracy(out.clothes_logits2, clothes_ids),
        }
        return {name: value.detach() for name, value in terms.items()}

    def _update(self, optimizer: Optimizer, loss: Tensor) -> None:
        """Step one optimiser. Gradients that ``loss`` leaves elsewhere are wiped by their owner."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature
        self._synchronize(
            parameter for group in optimizer.param_groups for parameter in group["params"]
        )
        optimizer.step()

    def _identity_loss(self, logits: Tensor, pids: Tensor) -> Tensor:
        config = self.losses
        return identity_loss(
            logits,
            pids,
            kind=config.identity,
            epsilon=config.label_smoothing,
            scale=config.identity_scale,
            margin=config.identity_margin,
        )

    def _clothes_loss(self, cosines: Tensor, clothes_ids: Tensor) -> Tensor:
        config = self.losses
        return clothes_loss(cosines, clothes_ids, kind=config.clothes, scale=config.clothes_scale)

    def _pair_loss(self, features: Tensor, pids: Tensor) -> Tensor:
        config = self.losses
        return pair_loss(
            features,
            pids,
            kind=config.pair,
            scale=config.pair_scale,
            margin=config.pair_margin,
            gallery=gather_gallery(features, pids),
        )
