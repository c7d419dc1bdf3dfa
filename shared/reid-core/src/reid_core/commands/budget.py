"""What a command will hold in memory, part by part, for the comparison before it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from reid_core.commands.ranking_budget import add_ranking, open_plan, rerank_limit
from reid_core.config import DataConfig
from reid_core.data.opening import place_images
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.engine.distributed import World
from reid_core.engine.run import Run
from reid_core.evaluation.protocols.definition import Protocol
from reid_core.evaluation.protocols.lookup import splits_of
from reid_core.evaluation.reranking.config import RerankConfig
from reid_core.memory import MemoryPlan
from reid_core.models.embedding import feature_names
from reid_core.models.footprint import embedding_footprint, state_bytes, training_footprint

__all__ = [
    "Places",
    "add_embedding",
    "add_evaluation",
    "open_plan",
    "plan_training",
    "rerank_limit",
]

EMBEDDING, TRAINING = "while embedding", "while training"
"""Phases of the commands' work beside ranking; what they hold is not there at the same time."""

# Batches that wait, are in the making or in use, and the pixels they are made from: see
# ``prefetch`` with two threads.
_FLOAT_BATCHES = 5
_PIXEL_BATCHES = 6

# Rows that processes exchange at one time: sent, received and unpacked, of every process.
_EXCHANGE_BYTES = 3 * 2**24


def add_embedding(
    plan: MemoryPlan,
    network: nn.Module,
    data: DataConfig,
    device: torch.device,
    *,
    batch_option: str = "--batch-size",
) -> int:
    """Add the batches of an embedding and the network's work on them.

    Args:
        plan: The account.
        network: Module with ``embed``, on any device.
        data: Size of images and batches.
        device: Where the network will be; work there is not counted unless it is the CPU.
        batch_option: Option of the command for the batch size.

    Returns:
        Dimension D of the features, of each where there are several.
    """
    shape = (data.test_batch_size, 3, data.height, data.width)
    num_bytes, dim = embedding_footprint(network, shape)
    remedy = f"a smaller {batch_option}"
    _add_batches(plan, shape, device, EMBEDDING, remedy)
    if device.type == "cpu":
        what = f"the network's work on {_size(shape)}"
        plan.add(what, num_bytes, phase=EMBEDDING, remedy=remedy)
    return dim


def add_evaluation(
    plan: MemoryPlan,
    network: nn.Module,
    splits: Mapping[str, Sequence[Sample]],
    protocols: Iterable[Protocol],
    data: DataConfig,
    *,
    device: torch.device,
    world: World,
    rerank: RerankConfig | None = None,
    expand: int = 0,
    batch_option: str = "--data.test-batch-size",
    cache_option: str = "--data.cache",
) -> DataConfig:
    """Add everything that an ``Evaluator`` holds.

    Args:
        plan: The account; what else there is should be in it.
        network: Module with ``embed``, on any device.
        splits: Split name to samples.
        protocols: What is evaluated.
        data: Size of images and batches, place of the images.
        device: Where the network will be.
        world: This process.
        rerank: Settings of re-ranking, where that is evaluated too.
        expand: Gallery images of query expansion, where that is evaluated too.
        batch_option: Option of the command for the batch size.
        cache_option: Option of the command for the place of the images.

    Returns:
        The settings with the place of the images decided.
    """
    protocols = tuple(protocols)
    dim = add_embedding(plan, network, data, device, batch_option=batch_option)
    counts = {name: len(splits[name]) for name in splits_of(protocols, splits)}
    num_images = sum(counts.values())
    several = len(feature_names(network))
    size = f"{num_images:,} x {several} x {dim:,}" if several else f"{num_images:,} x {dim:,}"
    plan.add(f"features of the test images ({size})", 4 * num_images * dim * (several or 1))
    if world.world_size > 1:
        what = "exchange of features between processes"
        plan.add(what, world.world_size * _EXCHANGE_BYTES, phase=EMBEDDING)
    cases = [(protocol, counts) for protocol in protocols]
    add_ranking(plan, cases, dim, rerank=rerank, expand=expand)
    return place_images(data, plan, counts, num_processes=world.world_size, option=cache_option)


class Places(NamedTuple):
    """Data settings with the place of the images decided.

    Attributes:
        test: Of the test images.
        train: Of the training images.
    """

    test: DataConfig
    train: DataConfig


def plan_training(
    run: Run,
    network: nn.Module,
    dataset: ReIDDataset,
    protocols: Sequence[Protocol],
    data: DataConfig,
    *,
    limit: str | None,
    batch_size: int,
    moments: int,
    crop_scale: float | None,
    add_parts: Callable[[MemoryPlan], None] = lambda plan: None,
) -> Places:
    """Decide where images are kept, and refuse a run that needs more memory than it may have.

    Args:
        run: The run.
        network: The networks in training mode, with ``embed``; they may be on the meta device.
        dataset: The data set.
        protocols: What is evaluated; nothing where there are none.
        data: Size of the images, place of the images.
        limit: What ``--memory-limit`` says.
        batch_size: Images per training batch.
        moments: Numbers that the optimisers keep of each parameter: Adam 2, SGD with momentum 1.
        crop_scale: Enlarged copies that are kept of the training images, as in ``open_images``.
        add_parts: Adds what only this method needs.

    Raises:
        MemoryLimitError: With every part that was counted. Of a device other than the CPU only
            what is on the host is; tensors of the losses are not.
    """
    plan = open_plan("training", limit, run.device, run.world)
    _add_training(plan, network, (batch_size, 3, data.height, data.width), moments, run)
    add_parts(plan)
    test = data
    if protocols:
        test = add_evaluation(
            plan, network, dataset.splits, protocols, data, device=run.device, world=run.world
        )
    train = place_images(
        data,
        plan,
        {"train": len(dataset.train)},
        crop_scale=crop_scale,
        num_processes=run.world_size,
    )
    plan.require("training")
    return Places(test, train)


def _add_training(
    plan: MemoryPlan, network: nn.Module, shape: Sequence[int], moments: int, run: Run
) -> None:
    """Add the networks, their gradients, the optimisers and a training step on one batch."""
    remedy = "a smaller --batch-size"
    learnt = state_bytes(network.parameters())
    plan.add("the networks", learnt + state_bytes(network.buffers()))
    _add_batches(plan, shape, run.device, TRAINING, remedy)
    if run.device.type != "cpu":
        return
    plan.add("their gradients", learnt)
    plan.add("the optimisers' moments", moments * learnt)
    if run.world_size > 1:
        plan.add("exchange of gradients between processes", learnt, phase=TRAINING)
    what = f"the networks' work on {_size(shape)}, backwards too"
    plan.add(what, training_footprint(network, shape), phase=TRAINING, remedy=remedy)


def _add_batches(
    plan: MemoryPlan, shape: Sequence[int], device: torch.device, phase: str, remedy: str
) -> None:
    numbers = torch.Size(shape).numel()
    size = 4 * _FLOAT_BATCHES * numbers if device.type == "cpu" else _PIXEL_BATCHES * numbers
    plan.add(f"batches of {_size(shape)}", size, phase=phase, remedy=remedy)


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]} images of {shape[2]} x {shape[3]}"
