"""What every training does around its own loop: open the data, evaluate, leave the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from torch import nn

from reid_core.commands.best import BestWeights
from reid_core.commands.budget import open_plan, plan_training
from reid_core.commands.console import say
from reid_core.commands.permutation_file import open_permutations
from reid_core.commands.progress import progress_bar
from reid_core.commands.results import (
    MethodInfo,
    Outcome,
    describe_dataset,
    describe_device,
    print_evaluation,
    publish,
)
from reid_core.commands.same_data import require_same_data
from reid_core.commands.trials import has_trials
from reid_core.config import DataConfig, RunConfig, to_dict
from reid_core.data.augment import BatchAugment
from reid_core.data.augment_config import AugmentConfig
from reid_core.data.cache import ImageCache
from reid_core.data.fingerprint import fingerprint
from reid_core.data.loader import EpochSampler, TrainLoader
from reid_core.data.opening import open_dataset, open_images
from reid_core.data.requirements import require_trainable
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.engine.folder import METRICS_NAME
from reid_core.engine.optimizers import num_moments
from reid_core.engine.run import Run
from reid_core.engine.weights import WEIGHTS_NAME, Weights, save_weights
from reid_core.errors import ConfigError
from reid_core.evaluation.evaluator import Evaluation, Evaluator
from reid_core.evaluation.protocols.lookup import choose_protocols
from reid_core.memory import MemoryPlan
from reid_core.report import read_metrics
from reid_core.training_config import TrainingConfig

__all__ = [
    "DecodedImages",
    "Rounds",
    "TrainingImages",
    "TrainingSettings",
    "evaluate_epoch",
    "leave_results",
    "next_epoch",
    "open_decoded_images",
    "open_images_of_training",
    "open_training_data",
    "require_epochs_left",
]

_NOT_EVALUATED = "none: the data set has no query and gallery images of known people"


class TrainingSettings(Protocol):
    """What these functions read of a method's configuration; ``TrainingConfig`` has it all.

    A method that does not train in batches of identities has a configuration of its own.
    """

    @property
    def data(self) -> DataConfig:
        """Which images."""

    @property
    def augment(self) -> AugmentConfig:
        """How training images are varied."""

    @property
    def epochs(self) -> int:
        """Number of epochs of the whole run."""

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocols to evaluate."""

    @property
    def select(self) -> Literal["last", "best"]:
        """Weights to keep."""

    @property
    def run(self) -> RunConfig:
        """Where and how."""


class DecodedImages(NamedTuple):
    """Decoded images.

    Attributes:
        evaluator: Of the test images.
        images: Pixels of the training images.
        samples: The training images, in the order of the pixels; damaged ones left out.
    """

    evaluator: Evaluator
    images: ImageCache
    samples: Sequence[Sample]


class TrainingImages(NamedTuple):
    """Decoded images, ready for use.

    Attributes:
        evaluator: Of the test images.
        loader: Of the training images.
    """

    evaluator: Evaluator
    loader: TrainLoader


class Rounds(NamedTuple):
    """What people count a training by.

    Attributes:
        name: ``epoch``, or what a method counts instead.
        length: Epochs of each.
    """

    name: str = "epoch"
    length: int = 1

    def number(self, epochs: int) -> int:
        """Return how many rounds so many finished epochs are."""
        return epochs // self.length


_EPOCHS = Rounds()


def open_training_data(
    run: Run,
    config: TrainingSettings,
    *,
    title: str,
    clothes: bool = False,
    identities: bool = True,
) -> ReIDDataset:
    """Read the data set of a run, generated first where that is asked for, and say what it is.

    Args:
        run: The run, started with ``preset`` in its origin.
        config: Its settings.
        title: Name of the method, for people.
        clothes: The method needs outfit labels.
        identities: The method needs identities.

    Raises:
        ReIDError: When the data cannot be used, are not those that the run was started on, or the
            memory limit cannot be kept by anything.
    """
    open_plan("training", config.run.memory_limit, run.device, run.world)
    show = partial(progress_bar, enabled=run.is_main)
    with run.main_first(), show("drawing synthetic people") as progress:
        dataset = open_dataset(config.data, progress)
    require_trainable(dataset, clothes=clothes, identities=identities)
    require_same_data(run, dataset)
    if run.is_main:
        say(f"{title} on {describe_dataset(dataset, identities=identities)}")
        device = describe_device(run.device)
        say(f"preset {run.origin['preset']}, {device}, run folder {run.folder}")
    return dataset


def open_images_of_training(
    run: Run,
    config: TrainingConfig,
    dataset: ReIDDataset,
    network: nn.Module,
    sampler: Callable[[Sequence[Sample]], EpochSampler],
) -> TrainingImages:
    """Decode all images once, and make the loader of the training images.

    Args:
        run: The run.
        config: Its settings.
        dataset: The data set.
        network: The networks in training mode, with ``embed``; they may be on the meta device.
        sampler: From the training images to their order in each epoch.

    Raises:
        ReIDError: As ``open_decoded_images``.
    """
    opened = open_decoded_images(
        run,
        config,
        dataset,
        network,
        batch_size=config.batch_size,
        moments=num_moments(config.optim),
    )
    loader = TrainLoader(
        opened.images,
        opened.samples,
        sampler(opened.samples),
        BatchAugment(config.augment, config.data.height, config.data.width),
        batch_size=config.batch_size,
        device=run.device,
        seed=config.run.seed,
        rank=run.rank,
    )
    return TrainingImages(opened.evaluator, loader)


def open_decoded_images(
    run: Run,
    config: TrainingSettings,
    dataset: ReIDDataset,
    network: nn.Module,
    *,
    batch_size: int,
    moments: int,
    evaluate: bool = True,
    add_parts: Callable[[MemoryPlan], None] = lambda plan: None,
) -> DecodedImages:
    """Decode all images once, the test images first, so that bad ones are found before training.

    All of the data set's splits are needed at the end; a run that would fail there fails here.

    Args:
        run: The run.
        config: Its settings.
        dataset: The data set.
        network: The networks in training mode, with ``embed``; they may be on the meta device.
        batch_size: Images of the largest training batch.
        moments: Numbers that the optimisers keep of each parameter.
        evaluate: Whether there is anything to evaluate; otherwise the evaluator has no protocols.
        add_parts: Adds what only this method needs in memory.

    Raises:
        ProtocolError: When a protocol cannot be used.
        MemoryLimitError: When the run needs more memory than it may have.
        ImageFileError: When images are damaged (unless they are to be skipped).
        OutputError: When the image cache cannot be written.
    """
    protocols = choose_protocols(dataset, config.protocols) if evaluate else ()
    permutations = open_permutations(protocols, dataset)
    augment, scale = config.augment, _crop_scale(config.augment)
    places = plan_training(
        run,
        network,
        dataset,
        protocols,
        config.data,
        limit=config.run.memory_limit,
        batch_size=batch_size,
        moments=moments,
        crop_scale=scale,
        add_parts=add_parts,
    )
    evaluator = Evaluator(
        dataset,
        protocols,
        places.test,
        device=run.device,
        world=run.world,
        mean=augment.mean,
        std=augment.std,
        permutations=permutations,
    )
    with progress_bar("reading test images", enabled=run.is_main) as progress:
        evaluator.open_images(progress)
    show = progress_bar("reading training images", enabled=run.is_main)
    with run.main_first(), show as progress:
        images = open_images(
            dataset.train,
            places.train,
            crop_scale=scale,
            num_processes=run.world_size,
            progress=progress,
        )
    return DecodedImages(evaluator, images, images.select(dataset.train))


def _crop_scale(augment: AugmentConfig) -> float | None:
    """Return the factor of the enlarged training images that random crops are cut from, if any."""
    return augment.crop_scale if augment.crop_prob else None


def evaluate_epoch(
    run: Run, evaluator: Evaluator, network: nn.Module, epoch: int, *, label: str = ""
) -> Evaluation:
    """Evaluate a network in training, log the figures and print them.

    Args:
        run: The run.
        evaluator: From ``open_images_of_training``.
        network: Module with ``embed``.
        epoch: Epoch just finished, from 0; -1 before training.
        label: What it is called on the console; by default after the epoch.
    """
    found = evaluator(network)
    run.log_evaluation(epoch, found.summary())
    if run.is_main:
        print_evaluation(label or ("untrained" if epoch < 0 else f"epoch {epoch + 1}"), found)
    return found


def require_epochs_left(run: Run, epochs: int) -> None:
    """Refuse to continue a run that is further than the number of epochs asked for.

    Args:
        run: The run, with its tracked state restored.
        epochs: Number of epochs of the whole run.

    Raises:
        ConfigError: When it is.
    """
    if run.position.epoch > epochs:
        raise ConfigError(
            f"the run in {run.folder} has finished {run.position.epoch} epochs, and "
            f"epochs={epochs}; leave --epochs out, or give a larger number"
        )


def next_epoch(source: Path, finished: int | None, epochs: int, *, evaluate: str) -> int:
    """Return the epoch that a training starts at when it goes on from an official checkpoint.

    Args:
        source: The checkpoint, for the message.
        finished: Epoch from 0 that it finished, or None where it does not say.
        epochs: Number of epochs of the whole run.
        evaluate: The method's command for evaluation, for the message.

    Raises:
        ConfigError: When nothing is left to train.
    """
    first = 0 if finished is None else finished + 1
    if first >= epochs:
        raise ConfigError(
            f"{source} has finished epoch {first}, and epochs={epochs}: nothing is left to train; "
            f"use --epochs above {first}, or {evaluate}"
        )
    return first


def leave_results(
    run: Run,
    method: MethodInfo,
    config: TrainingSettings,
    dataset: ReIDDataset,
    evaluation: Evaluation,
    weights: Weights,
    best: BestWeights,
    *,
    rounds: Rounds = _EPOCHS,
) -> None:
    """Write weights, results and report into the run's folder, and print the table.

    Args:
        run: The run; its main process calls this.
        method: The method.
        config: The run's settings.
        dataset: The data set.
        evaluation: Of the weights; one without results is reported as none.
        weights: Those of the test-time network that ``config.select`` asks for; the card is what
            the method's loader must know of it.
        best: The best evaluation on the test set.
        rounds: What the training is counted by; where it is not epochs, both are told.

    Raises:
        OutputError: When a file cannot be written.
    """
    metrics = read_metrics(run.folder / METRICS_NAME)
    earlier = [record for record in metrics if record["kind"] == "eval" and record["epoch"] == -1]
    seconds = sum(record["timing"]["seconds"] for record in metrics if record["kind"] == "train")
    preset, best_on_test = run.origin["preset"], best.state_dict()
    length = {"epochs": config.epochs}
    if rounds.name != "epoch":
        length = {f"{rounds.name}s": rounds.number(config.epochs), **length}
        best_on_test[rounds.name] = rounds.number(best_on_test["epoch"] + 1) - 1
    details = {
        "preset": preset,
        "seed": config.run.seed,
        **length,
        "selected": config.select,
        "best_on_test": best_on_test,
    }
    trained = ", ".join(f"{number} {name}" for name, number in length.items())
    kept = f"best on the TEST set ({rounds.name} {best_on_test[rounds.name] + 1})"
    outcome = Outcome(
        evaluation=evaluation,
        stage="trained",
        dataset=dataset,
        earlier=earlier[0]["results"] if earlier else {},
        details=details,
        facts={
            "preset": preset,
            "weights": f"last {rounds.name}" if config.select == "last" else kept,
            **_describe_best(best_on_test, config, rounds.name),
            **({} if evaluation.results else {"evaluation": _NOT_EVALUATED}),
            "device": describe_device(run.device),
            "training": f"{seconds:,.0f} s in {trained}",
        },
        metrics=metrics,
        config=to_dict(config),
        command=run.origin["command"],
    )
    card = {
        **weights.card,
        "dataset": dataset.name,
        "synthetic": dataset.synthetic,
        "fingerprint": fingerprint(dataset),
        **({"trial": config.data.trial} if has_trials(dataset.name) else {}),
        **details,
        "results": evaluation.summary(),
    }
    files = [save_weights(run.folder / WEIGHTS_NAME, weights.state_dict, card)]
    files += publish(run.folder, method, outcome)
    for path in files:
        say(f"wrote {path}")


def _describe_best(
    best: Mapping[str, Any], config: TrainingSettings, counted: str
) -> dict[str, str]:
    """Return the best evaluation on the test set for the report, beside that of the last epoch."""
    if config.select == "best" or not best["results"]:
        return {}
    return {
        "best on the TEST set": f"rank-1 {best['rank1']:.1%} after {counted} {best[counted] + 1}, "
        "for comparison only"
    }
