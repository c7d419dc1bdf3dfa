"""``<method>-eval``: weights on a data set, one table row per protocol."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from reid_core.commands.arguments import EvaluateArguments
from reid_core.commands.budget import add_evaluation, open_plan, rerank_limit
from reid_core.commands.console import say
from reid_core.commands.network import LoadedNetwork
from reid_core.commands.permutation_file import open_permutations
from reid_core.commands.progress import progress_bar
from reid_core.commands.results import Bootstrap, MethodInfo, Outcome, describe_device, publish
from reid_core.commands.results_folder import results_folder
from reid_core.commands.trials import (
    TrialNetwork,
    has_trials,
    load_networks,
    merge_datasets,
    merge_evaluations,
)
from reid_core.config import DataConfig
from reid_core.data.naming import name_dataset
from reid_core.data.opening import open_dataset
from reid_core.data.sample import ReIDDataset
from reid_core.engine.device import choose_device, numeric_settings
from reid_core.engine.distributed import World, main_first, process_group, read_world
from reid_core.evaluation.evaluator import Evaluation, Evaluator
from reid_core.evaluation.protocols.lookup import choose_protocols
from reid_core.models.embedding import companion_sizes

__all__ = ["evaluate_weights"]

logger = logging.getLogger(__name__)

_WORK = "evaluation"

Complete = Callable[[EvaluateArguments], EvaluateArguments]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Prepared:
    """A network and what it will be evaluated on, checked and not yet decoded."""

    network: TrialNetwork
    dataset: ReIDDataset
    evaluator: Evaluator
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Evaluated:
    """What remains of a network after its evaluation."""

    evaluation: Evaluation
    dataset: ReIDDataset
    settings: dict[str, Any]
    weights: dict[str, Any]


def evaluate_weights(
    load: Callable[[Path], LoadedNetwork],
    arguments: EvaluateArguments,
    method: MethodInfo | Callable[[Mapping[str, Any]], MethodInfo],
    *,
    command: str,
    complete: Complete | None = None,
) -> None:
    """Evaluate weights, write results.json and report.html, print the table.

    Under ``torchrun`` every process embeds its share of the images; the first one writes. Where
    the weights are one network per trial (see ``load_networks``), each is evaluated on its own
    trial, and the results are those of all trials together.

    Args:
        load: The method's ``load_network``.
        arguments: Weights, data, protocols, output.
        method: The method that they belong to; a function of the weights' card where the published
            figures depend on how they were trained.
        command: Command line, for the report.
        complete: Completes the arguments with companions that belong to the data and were not
            named; called when weights that look at companions are known to be good.

    Raises:
        ReIDError: When weights, data or protocols cannot be used, results cannot be written, or it
            would need more memory than it may have.
    """
    begin = time.monotonic()
    world = read_world()
    device = choose_device(
        arguments.device, local_rank=world.local_rank, world_size=world.world_size
    )
    name = arguments.dataset or name_dataset(arguments.data)
    prepare = partial(
        _prepare, arguments=arguments, complete=complete, name=name, device=device, world=world
    )
    with numeric_settings(deterministic=True), process_group(world, device):
        open_plan(_WORK, arguments.memory_limit, device, world)  # refuses what cannot be at all
        networks = _load(load, arguments, name, world)
        prepared = prepare(next(networks))
        info = method
        if not isinstance(info, MethodInfo):
            info = info(prepared.network.loaded.card)
        # A folder that is taken is found now, not after an hour of embedding.
        with results_folder(arguments.out, f"{info.name}-eval-{name}", world) as folder:
            evaluated = [_evaluate(prepared, device, world)]
            del prepared  # its images
            for network in networks:
                found = _evaluate(prepare(network), device, world)
                # The report shows lists of the first trial only; the plan has one trial's features.
                rest = replace(found.evaluation, features={})
                evaluated.append(replace(found, evaluation=rest))
            if folder is None:
                return
            outcome = Outcome(
                evaluation=merge_evaluations([item.evaluation for item in evaluated]),
                stage="evaluated",
                dataset=merge_datasets([item.dataset for item in evaluated]),
                details=_details(evaluated),
                facts={
                    "weights": str(arguments.weights),
                    "device": describe_device(device),
                    "duration": f"{time.monotonic() - begin:.0f} s",
                },
                config={"weights": evaluated[0].weights["card"]},
                command=command,
                bootstrap=_bootstrap(arguments),
            )
            queries = arguments.queries
            for path in publish(folder, info, outcome, queries=queries, query_tables=True):
                say(f"wrote {path}")


def _load(
    load: Callable[[Path], LoadedNetwork], arguments: EvaluateArguments, name: str, world: World
) -> Iterator[TrialNetwork]:
    data = arguments.data_config(DataConfig(dataset=name))
    show = progress_bar("drawing synthetic people", enabled=world.is_main)
    with main_first(world), show as progress:
        return load_networks(load, arguments.weights, data, arguments.trial, progress)


def _prepare(
    network: TrialNetwork,
    *,
    arguments: EvaluateArguments,
    complete: Complete | None,
    name: str,
    device: torch.device,
    world: World,
) -> _Prepared:
    """Open the data of a network, and refuse what needs more memory than there may be."""
    loaded = network.loaded
    arguments = _choose_companions(arguments, loaded, complete, world)
    own = DataConfig(
        dataset=name,
        trial=network.trial,
        height=loaded.height,
        width=loaded.width,
        interpolation=loaded.interpolation,
        flip=loaded.flip,
    )
    data = arguments.data_config(own)
    show = progress_bar("drawing synthetic people", enabled=world.is_main)
    with main_first(world), show as progress:
        dataset = open_dataset(data, progress)
    protocols = choose_protocols(dataset, arguments.protocol)
    permutations = open_permutations(protocols, dataset, arguments.permutation)
    settings = {
        "height": data.height,
        "width": data.width,
        "interpolation": data.interpolation,
        "flip": data.flip,
        **({} if permutations is None else {"permutations": str(permutations.source)}),
    }
    plan = open_plan(_WORK, arguments.memory_limit, device, world)
    data = add_evaluation(
        plan,
        loaded.network,
        dataset.splits,
        protocols,
        data,
        device=device,
        world=world,
        rerank=arguments.rerank_config,
        expand=arguments.expand,
        batch_option="--batch-size",
        cache_option="--cache",
    )
    plan.require(_WORK)
    evaluator = Evaluator(
        dataset,
        protocols,
        data,
        device=device,
        world=world,
        mean=loaded.mean,
        std=loaded.std,
        rerank=arguments.rerank_config,
        expand=arguments.expand,
        permutations=permutations,
        memory_limit=rerank_limit(plan),
        companions=companion_sizes(loaded.network),
    )
    return _Prepared(network=network, dataset=dataset, evaluator=evaluator, settings=settings)


def _choose_companions(
    arguments: EvaluateArguments, loaded: LoadedNetwork, complete: Complete | None, world: World
) -> EvaluateArguments:
    """Return the arguments with the companions that the network looks at, and with no others."""
    if not companion_sizes(loaded.network):
        if arguments.prepared is not None:
            logger.warning("--prepared has no effect: %s looks at the images alone", loaded.method)
        return replace(arguments, prepared=None)
    if complete is None:
        return arguments
    with main_first(world):
        return complete(arguments)


def _evaluate(prepared: _Prepared, device: torch.device, world: World) -> _Evaluated:
    show = partial(progress_bar, enabled=world.is_main)
    with show("reading images") as progress:
        prepared.evaluator.open_images(progress)
    loaded = prepared.network.loaded
    network = loaded.network.to(device)
    with show("embedding") as progress:
        evaluation = prepared.evaluator(network, progress)
    weights: dict[str, Any] = {"file": str(loaded.source), "card": dict(loaded.card)}
    if has_trials(prepared.dataset.name):
        weights["trial"] = prepared.network.trial
    return _Evaluated(
        evaluation=evaluation,
        dataset=prepared.dataset,
        settings=prepared.settings,
        weights=weights,
    )


def _details(evaluated: Sequence[_Evaluated]) -> dict[str, Any]:
    """Return what results.json says of networks and settings; of several networks a list."""
    weights = [item.weights for item in evaluated]
    return {"weights": weights if len(weights) > 1 else weights[0], **evaluated[0].settings}


def _bootstrap(arguments: EvaluateArguments) -> Bootstrap | None:
    if arguments.confidence is None:
        return None
    return Bootstrap(
        confidence=arguments.confidence,
        resample=arguments.resample,
        resamples=arguments.resamples,
    )
