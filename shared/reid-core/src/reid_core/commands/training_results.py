"""What every training does in and after its own loop: evaluate, and leave the results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from reid_core.commands.best import BestOnTest
from reid_core.commands.console import say
from reid_core.commands.results import (
    MethodInfo,
    Outcome,
    describe_device,
    print_evaluation,
    publish,
)
from reid_core.commands.training_settings import EPOCHS, Rounds, TrainingSettings
from reid_core.commands.trials import has_trials
from reid_core.config import to_dict
from reid_core.data.fingerprint import fingerprint
from reid_core.data.sample import ReIDDataset
from reid_core.engine.folder import METRICS_NAME
from reid_core.engine.run import Run
from reid_core.engine.weights import WEIGHTS_NAME, Weights, save_weights
from reid_core.errors import ConfigError
from reid_core.evaluation.evaluator import Evaluation, Evaluator
from reid_core.report import read_metrics

__all__ = ["evaluate_epoch", "leave_results", "next_epoch", "require_epochs_left"]

_NOT_EVALUATED = "none: the data set has no query and gallery images of known people"


def evaluate_epoch(
    run: Run, evaluator: Evaluator, network: nn.Module, epoch: int, *, label: str = ""
) -> Evaluation:
    """Evaluate a network in training, log the figures and print them.

    Args:
        run: The run.
        evaluator: From ``open_images_of_training`` or ``open_decoded_images``.
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
    best: BestOnTest,
    *,
    facts: Mapping[str, str] | None = None,
    rounds: Rounds = EPOCHS,
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
        facts: Label to text, more for the head of the report.
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
    outcome = Outcome(
        evaluation=evaluation,
        stage="trained",
        dataset=dataset,
        earlier=earlier[0]["results"] if earlier else {},
        details=details,
        facts={
            "preset": preset,
            **best.describe(selected=config.select == "best"),
            **({} if evaluation.results else {"evaluation": _NOT_EVALUATED}),
            **(facts or {}),
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
