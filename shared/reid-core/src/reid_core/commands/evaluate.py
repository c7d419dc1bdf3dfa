"""``<method>-eval``: weights on a data set, one table row per protocol."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from reid_core.commands.arguments import EvaluateArguments
from reid_core.commands.console import say
from reid_core.commands.network import LoadedNetwork
from reid_core.commands.progress import progress_bar
from reid_core.commands.results import MethodInfo, Outcome, describe_device, publish
from reid_core.data.naming import name_dataset
from reid_core.data.opening import open_dataset
from reid_core.engine.device import choose_device, numeric_settings
from reid_core.engine.distributed import World, main_first, process_group, read_world
from reid_core.engine.folder import RunFolder, discard_unused
from reid_core.errors import ReIDError
from reid_core.evaluation.evaluator import Evaluator
from reid_core.evaluation.protocols import choose_protocols

__all__ = ["evaluate_network"]


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
        ReIDError: When data or protocols cannot be used, or results cannot be written.
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
        with main_first(world), show("drawing synthetic people") as progress:
            dataset = open_dataset(data, progress)
        evaluator = Evaluator(
            dataset,
            choose_protocols(dataset, arguments.protocol),
            data,
            device=device,
            world=world,
            mean=loaded.mean,
            std=loaded.std,
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
            )
            for path in publish(folder, method, outcome, queries=arguments.queries):
                say(f"wrote {path}")


@contextmanager
def results_folder(out: Path | None, name: str, world: World) -> Iterator[Path | None]:
    """Hold the folder of an evaluation's results; None on all processes but the first.

    When the evaluation fails, a folder in which nothing was written is removed.
    """
    with main_first(world), ExitStack() as stack:
        folder = stack.enter_context(RunFolder.create(out, name=name)) if world.is_main else None
        closing = stack.pop_all()
    path = None if folder is None else folder.path
    try:
        with closing:
            yield path
    except ReIDError:
        if path is not None:
            discard_unused(path)
        raise
