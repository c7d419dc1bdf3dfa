"""A plain ResNet with an identity and a triplet loss: what a method must beat.

    python benchmarks/baseline.py --data ROOT [--dataset ltcc] [--preset paper] [--out DIR]

Takes the options of ``<method>-train`` and leaves the same run folder. Network and losses are those
of Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPRW 2019,
without the center loss: last stride 1, mean pooling, batch-norm neck without shift, label smoothing
0.1, batch-hard triplet loss with margin 0.3 before the neck. The feature after it is compared.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from reid_core import __version__
from reid_core.cli import parse_train, run_command
from reid_core.commands.best import BestWeights
from reid_core.commands.network import network_card
from reid_core.commands.results import MethodInfo
from reid_core.commands.training_data import open_images_of_training, open_training_data
from reid_core.commands.training_results import evaluate_epoch, leave_results, require_epochs_left
from reid_core.config import DataConfig, OptimConfig, RunConfig, require, to_dict
from reid_core.data.augment_config import AugmentConfig
from reid_core.data.naming import name_dataset
from reid_core.data.readers import DATASET_NAMES
from reid_core.data.sample import Sample
from reid_core.data.samplers import DistinctIdentitySampler
from reid_core.engine import (
    Run,
    Weights,
    average_gradients,
    build_schedule,
    configure_logging,
)
from reid_core.engine.optimizers import build_optimizer
from reid_core.losses import batch_hard_triplet_euclidean, label_smoothing_cross_entropy
from reid_core.models import BNNeck, ResNetTrunk
from reid_core.models.init import init_linear
from reid_core.models.pooling import build_pooling
from reid_core.training_config import TrainingConfig

PROG = "baseline-train"

INFO = MethodInfo(
    name="baseline",
    title="ResNet + triplet",
    version=__version__,
    citation="Luo, Gu, Liao, Lai, Jiang: Bag of Tricks and a Strong Baseline for Deep Person "
    "Re-identification. CVPR Workshops 2019.",
    source="",
    published={},
)


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(TrainingConfig):
    """Everything that defines one run of the baseline."""

    optim: OptimConfig = field(
        default_factory=partial(OptimConfig, milestones=(40, 70), warmup_epochs=10)
    )
    augment: AugmentConfig = field(
        default_factory=partial(AugmentConfig, crop_prob=0.0, pad=10, erase_fill=(0.0, 0.0, 0.0))
    )
    epochs: int = 120
    """Training epochs."""
    backbone: Literal["resnet10", "resnet18", "resnet34", "resnet50"] = "resnet50"
    """Backbone."""
    weights: str = "imagenet"
    """Start of the backbone: `imagenet`, `none`, or a weights file."""

    def __post_init__(self) -> None:
        """Check that the fields go together."""
        super().__post_init__()
        require(
            self.start_from is None,
            f"--resume {self.start_from}: there are no official checkpoints of a baseline; give a "
            "run folder, or start weights with --weights FILE",
        )


def paper(dataset: str) -> BaselineConfig:
    """Batches and epochs of the strong baseline, at the methods' image size."""
    return BaselineConfig(data=DataConfig(dataset=dataset), batch_size=64, num_instances=4)


def demo(dataset: str) -> BaselineConfig:
    """Sizes and epochs of the methods' demo presets."""
    return BaselineConfig(
        data=DataConfig(dataset=dataset, height=128, width=64, test_batch_size=64),
        optim=OptimConfig(milestones=(7, 9), warmup_epochs=1),
        augment=AugmentConfig(crop_prob=0.0, pad=4, erase_fill=(0.0, 0.0, 0.0)),
        epochs=10,
        num_instances=4,
        backbone="resnet10",
        weights="none",
        run=RunConfig(eval_every=0),
    )


PRESETS: Mapping[str, Callable[[str], BaselineConfig]] = {"paper": paper, "demo": demo}


class Output(NamedTuple):
    """What the network returns: (B, C) pooled features, (B, C) embeddings, (B, N) logits."""

    features: Tensor
    embeddings: Tensor
    logits: Tensor


class Baseline(ResNetTrunk):
    """ResNet, mean pooling, batch-norm neck and a linear classifier."""

    def __init__(self, config: BaselineConfig, num_pids: int, weights: str) -> None:
        super().__init__(config.backbone, last_stride=1, weights=weights)
        self.pool = build_pooling("avg")
        self.neck = BNNeck(self.num_features, trained_shift=False)
        self.classifier = nn.Linear(self.num_features, num_pids, bias=False)
        init_linear(self.classifier)

    def forward(self, images: Tensor) -> Output:
        """Run the network on normalised images (B, 3, H, W)."""
        features = self.pool(self.feature_map(images))
        embeddings = self.neck(features)
        return Output(features, embeddings, self.classifier(embeddings))

    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings (B, C), not normalised."""
        return self(images).embeddings  # type: ignore[no-any-return]


def train(config: BaselineConfig, *, preset: str, command: str, resume: bool) -> Path:
    """Train the baseline and leave a run folder, as the methods' recipes do."""
    with Run.start(
        config.run,
        method=INFO.name,
        version=__version__,
        config=to_dict(config),
        origin={"preset": preset, "command": command},
        resume=resume,
        name=f"baseline-{config.data.dataset}-{preset}",
    ) as run:
        dataset = open_training_data(run, config, title=INFO.title)
        with torch.device("meta"):
            outline = Baseline(config, dataset.num_pids, "none")

        def order(samples: Sequence[Sample]) -> DistinctIdentitySampler:
            pids = [sample.pid for sample in samples]
            batches = (config.batch_size, config.num_instances)
            return DistinctIdentitySampler(
                pids, *batches, config.run.seed, run.rank, run.world_size
            )

        evaluator, loader = open_images_of_training(run, config, dataset, outline, order)
        with run.main_first():
            start = "none" if run.resumed else config.weights
            model = Baseline(config, dataset.num_pids, start).to(run.device)
        optimizer = build_optimizer(model.parameters(), config.optim)
        schedule = build_schedule(optimizer, config.optim)
        best = BestWeights(run, INFO.name, keep=config.select == "best")
        run.track(model=model, optimizer=optimizer, schedule=schedule, best=best)
        network = {"backbone": config.backbone}
        card = network_card(
            INFO.name, __version__, network=network, data=config.data, augment=config.augment
        )
        if run.position == (0, 0):
            evaluate_epoch(run, evaluator, model, -1)
        require_epochs_left(run, config.epochs)
        for epoch in run.epochs(config.epochs):
            loader.set_epoch(epoch)
            model.train()
            for batch in run.batches(loader):
                with run.autocast():
                    out: Output = model(batch.images)
                terms = {
                    "loss_id": label_smoothing_cross_entropy(out.logits, batch.pids),
                    "loss_tri": batch_hard_triplet_euclidean(out.features, batch.pids),
                }
                loss = terms["loss_id"] + terms["loss_tri"]
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature
                average_gradients(model.parameters())
                optimizer.step()
                run.record({"loss": loss.detach(), **_detached(terms)}, batch)
            schedule.step()
            if run.should_evaluate(epoch, config.epochs):
                found = evaluate_epoch(run, evaluator, model, epoch)
                best.offer(found, epoch, Weights(model.state_dict(), card))
        if config.select == "best":
            model.load_state_dict(best.weights())
        evaluation = evaluator(model)
        if run.is_main:
            weights = Weights(model.state_dict(), card)
            leave_results(run, INFO, config, dataset, evaluation, weights, best)
        return run.folder


def _detached(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in terms.items()}


def main(argv: Sequence[str]) -> None:
    """Parse the arguments and train."""
    request = parse_train(
        PROG,
        argv,
        config_type=BaselineConfig,
        presets=PRESETS,
        datasets=DATASET_NAMES,
        find_dataset=name_dataset,
        aliases={},
        description="Train a plain ResNet with an identity and a triplet loss.",
    )
    configure_logging("reid_core")
    train(
        request.config,
        preset=request.preset,
        command=shlex.join([PROG, *argv]),
        resume=request.is_resumed,
    )


if __name__ == "__main__":
    run_command(PROG, partial(main, sys.argv[1:]))
