"""Data sets with several divisions into training and test people, each with its own network."""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

from reid_core.commands.network import LoadedNetwork
from reid_core.config import DataConfig
from reid_core.data.opening import require_trial, trials_of
from reid_core.data.readers import READERS
from reid_core.data.sample import ReIDDataset
from reid_core.engine.weights import WEIGHTS_NAME
from reid_core.errors import CheckpointError, ConfigError
from reid_core.evaluation.evaluator import Evaluation
from reid_core.evaluation.protocol_result import ProtocolResult

__all__ = [
    "TrialNetwork",
    "has_trials",
    "load_networks",
    "merge_datasets",
    "merge_evaluations",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")

Load = Callable[[Path], LoadedNetwork]
Progress = Callable[[int, int], None]

_PLACE = "{trial}"


class TrialNetwork(NamedTuple):
    """A network and the trial that it is evaluated on.

    Attributes:
        loaded: The network.
        trial: From 1; 1 where the data set has one division only.
    """

    loaded: LoadedNetwork
    trial: int


def has_trials(dataset: str) -> bool:
    """Tell whether a data set has several divisions into training and test people."""
    reader = READERS.get(dataset)
    return reader is not None and reader.info.num_trials > 1


def load_networks(
    load: Load,
    weights: Path,
    data: DataConfig,
    trial: int | None,
    progress: Progress | None = None,
) -> Iterator[TrialNetwork]:
    """Load the networks that ``--weights`` and ``--trial`` name, one after the other.

    Weights with ``{trial}`` in them, such as ``runs/regdb-{trial}``, are one network per trial of
    the data set; those of the trial asked for, or of all trials at hand. A single network is
    evaluated on the trial asked for, else on the one that it was trained on, else on trial 1.

    Args:
        load: The method's ``load_network``.
        weights: A file or folder, or a pattern.
        data: The data set.
        trial: What was asked for.
        progress: As in ``trials_of``.

    Returns:
        Iterator over the networks, which holds none of them.

    Raises:
        ConfigError: A pattern is given for a data set with one division, or the data set has no
            such trial.
        CheckpointError: Weights are missing (the message names all that are), cannot be loaded, or
            were trained on another trial than the pattern says.
    """
    if trial is not None:
        require_trial(data.dataset, trial)
    if _PLACE not in str(weights):
        return _load_one(load, weights, data.dataset, trial)
    if not has_trials(data.dataset):
        raise ConfigError(
            f"--weights {weights} stands for one network per trial, but {data.dataset} has one "
            "division into training and test people; name one file or folder"
        )
    if trial is None:
        _require_some(weights)
    trials = trials_of(data, progress) if trial is None else (trial,)
    files = {number: Path(str(weights).replace(_PLACE, str(number))) for number in trials}
    # The folder of an unfinished run is as good as none, and found now, not after the others.
    needed = [path / WEIGHTS_NAME if path.is_dir() else path for path in files.values()]
    missing = [str(path) for path in needed if not path.exists()]
    if missing:
        raise CheckpointError(
            f"--weights {weights} needs the network of every trial, and there is no "
            f"{', no '.join(missing)}; train what is missing, or evaluate one trial with --trial N"
        )
    return _load_each(load, files, data.dataset)


def merge_datasets(datasets: Sequence[ReIDDataset]) -> ReIDDataset:
    """Return the test splits of several trials as one data set; a single trial's as it is."""
    if len(datasets) == 1:
        return datasets[0]
    splits = _union(dataset.splits for dataset in datasets)
    del splits["train"]
    notes = dict.fromkeys(chain.from_iterable(dataset.notes for dataset in datasets))
    return replace(datasets[0], splits=splits, notes=tuple(notes))


def merge_evaluations(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Return evaluations of one trial each, under the same protocols, as one of all trials."""
    return Evaluation(
        samples=_union(evaluation.samples for evaluation in evaluations),
        features=_union(evaluation.features for evaluation in evaluations),
        results=_merge_results([evaluation.results for evaluation in evaluations]),
        variants={
            name: _merge_results([evaluation.variants[name] for evaluation in evaluations])
            for name in evaluations[0].variants
        },
        missing={
            kind: _union(evaluation.missing[kind] for evaluation in evaluations)
            for kind in evaluations[0].missing
        },
    )


def _require_some(weights: Path) -> None:
    """Refuse a pattern that nothing fits, before data are opened to find out the trials.

    Raises:
        CheckpointError: There is no such file or folder.
    """
    pattern = "*".join(glob.escape(part) for part in str(weights).split(_PLACE))
    if not glob.glob(pattern):
        raise CheckpointError(
            f"--weights {weights} needs the network of every trial, and there is none (nothing is "
            f"called {pattern}); train them first, or check the path"
        )


def _load_one(load: Load, weights: Path, dataset: str, trial: int | None) -> Iterator[TrialNetwork]:
    loaded = load(weights)
    trained = _trained_on(loaded, dataset)
    elsewhere = loaded.card.get("dataset") not in (None, dataset)
    if trial is None and trained is None and not elsewhere and has_trials(dataset):
        logger.warning(
            "%s does not say on which trial of %s it was trained; it is evaluated on trial 1. If "
            "that is another one, people of its training set are tested: choose with --trial N",
            weights,
            dataset,
        )
    if trial is not None and trained not in (None, trial):
        logger.warning(
            "%s was trained on trial %d of %s; some people of trial %d's test lists were in its "
            "training set, so the result says nothing",
            weights,
            trained,
            dataset,
            trial,
        )
    yield TrialNetwork(loaded, trial or trained or 1)


def _load_each(load: Load, files: Mapping[int, Path], dataset: str) -> Iterator[TrialNetwork]:
    for trial, path in files.items():
        loaded = load(path)
        trained = _trained_on(loaded, dataset)
        if trained not in (None, trial):
            raise CheckpointError(
                f"{path} was trained on trial {trained} of {dataset}, not on trial {trial}; people "
                "of its training set would be tested"
            )
        yield TrialNetwork(loaded, trial)


def _trained_on(loaded: LoadedNetwork, dataset: str) -> int | None:
    """Return the trial that weights were trained on; None where that is not known."""
    card = loaded.card
    trial = card.get("trial") if card.get("dataset") == dataset else None
    return trial if isinstance(trial, int) else None


def _merge_results(by_trial: Sequence[Sequence[ProtocolResult]]) -> tuple[ProtocolResult, ...]:
    return tuple(
        replace(
            results[0],
            trials=_chain(result.trials for result in results),
            searches=_chain(result.searches for result in results),
            numbers=_chain(result.numbers for result in results),
            num_gallery=max(result.num_gallery for result in results),
        )
        for results in zip(*by_trial, strict=True)
    )


def _chain(parts: Iterable[Iterable[T]]) -> tuple[T, ...]:
    return tuple(chain.from_iterable(parts))


def _union(mappings: Iterable[Mapping[str, T]]) -> dict[str, T]:
    return dict(chain.from_iterable(mapping.items() for mapping in mappings))
