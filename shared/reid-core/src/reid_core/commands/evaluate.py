"""``<method>-eval``: weights on a data set, one table row per protocol."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from reid_core.commands.arguments import EvaluateArguments
from reid_core.commands.budget import add_evaluation, open_plan, rerank_limit
from reid_core.commands.console import say
from reid_core.commands.network import LoadedNetwork
from reid_core.commands.progress import progress_bar
from reid_core.commands.results import Bootstrap, MethodInfo, Outcome, describe_device, publish
from reid_core.commands.results_folder import results_folder
from reid_core.data.naming import name_dataset
from reid_core.data.opening import open_dataset
from reid_core.engine.device import choose_device, numeric_settings
from reid_core.engine.distributed import main_first, process_group, read_world
from reid_core.evaluation.evaluator import Evaluator
from reid_core.evaluation.protocols.lookup import choose_protocols

__all__ = ["evaluate_network"]

_WORK = "evaluation"


def evaluate_network(
    loaded: LoadedNetwork, arguments: EvaluateArguments, method: MethodInfo, *, command: str
) -> None:
    """Evaluate weights, write results.json and report.html, print the table.

    Under ``torchrun`` every process embeds its share of the images; the first one writes.

    Args:
        loaded: The network.
        arguments: Data, protocols, output.
        method: The method that it belongs to.
        command: Command line, for the report.

    Raises:
        ReIDError: When data or protocols cannot be used, results cannot be written, or it would
            need more memory than it may have.
    """
    begin = time.monotonic()
    world = read_world()
    device = choose_device(
        arguments.device, local_rank=world.local_rank, world_size=world.world_size
    )
    data = arguments.data_config(height=loaded.height, width=loaded.width)
    data = replace(data, dataset=data.dataset or name_dataset(data.root))
    show = partial(progress_bar, enabled=world.is_main)
    with numeric_settings(deterministic=True), process_group(world, device):
        open_plan(_WORK, arguments.memory_limit, device, world)  # refuses what cannot be at all
        with main_first(world), show("drawing synthetic people") as progress:
            dataset = open_dataset(data, progress)
        protocols = choose_protocols(dataset, arguments.protocol)
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
            memory_limit=rerank_limit(plan),
        )
        # A folder that is taken is found now, not after an hour of embedding.
        with results_folder(arguments.out, f"{method.name}-eval-{dataset.name}", world) as folder:
            with show("reading images") as progress:
                evaluator.open_images(progress)
            network = loaded.network.to(device)
            with show("embedding") as progress:
                evaluation = evaluator(network.embed, progress)  # type: ignore[arg-type]
            if folder is None:
                return
            outcome = Outcome(
                evaluation=evaluation,
                stage="evaluated",
                dataset=dataset,
                details={
                    "weights": {"file": str(loaded.source), "card": dict(loaded.card)},
                    "height": data.height,
                    "width": data.width,
                },
                facts={
                    "weights": str(loaded.source),
                    "device": describe_device(device),
                    "duration": f"{time.monotonic() - begin:.0f} s",
                },
                config={"weights": dict(loaded.card)},
                command=command,
                bootstrap=_bootstrap(arguments),
            )
            queries = arguments.queries
            for path in publish(folder, method, outcome, queries=queries, query_tables=True):
                say(f"wrote {path}")


def _bootstrap(arguments: EvaluateArguments) -> Bootstrap | None:
    if arguments.confidence is None:
        return None
    return Bootstrap(
        confidence=arguments.confidence,
        resample=arguments.resample,
        resamples=arguments.resamples,
    )
