"""What every training does before its own loop: open the data set and decode its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from torch import nn

from reid_core.commands.budget import open_plan, plan_training
from reid_core.commands.console import say
from reid_core.commands.permutation_file import open_permutations
from reid_core.commands.progress import progress_bar
from reid_core.commands.results import describe_dataset, describe_device
from reid_core.commands.same_data import require_same_data
from reid_core.commands.training_settings import TrainingSettings
from reid_core.data.augment import BatchAugment
from reid_core.data.augment_config import AugmentConfig
from reid_core.data.cache import ImageCache
from reid_core.data.companion_images import open_accompanied
from reid_core.data.loader import EpochSampler, TrainLoader
from reid_core.data.opening import open_dataset
from reid_core.data.requirements import require_trainable
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.engine.optimizers import num_moments
from reid_core.engine.run import Run
from reid_core.evaluation.evaluator import Evaluator
from reid_core.evaluation.protocols.lookup import choose_protocols
from reid_core.memory import MemoryPlan
from reid_core.models.embedding import companion_sizes
from reid_core.training_config import TrainingConfig

__all__ = [
    "DecodedImages",
    "TrainingImages",
    "open_decoded_images",
    "open_images_of_training",
    "open_training_data",
]


class DecodedImages(NamedTuple):
    """Decoded images.

    Attributes:
        evaluator: Of the test images.
        images: Pixels of the training images.
        samples: The training images, in the order of the pixels; damaged ones left out.
        companions: Pixels of their companions by kind, in the same order.
    """

    evaluator: Evaluator
    images: ImageCache
    samples: Sequence[Sample]
    companions: Mapping[str, ImageCache]


class TrainingImages(NamedTuple):
    """Decoded images, ready for use.

    Attributes:
        evaluator: Of the test images.
        loader: Of the training images.
    """

    evaluator: Evaluator
    loader: TrainLoader


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
    companions: Mapping[str, tuple[int, int]] | None = None,
    evaluates: bool = True,
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
        companions: Height and width of what stands beside each training image, by kind; every
            training image has to have all. What ``network.forward`` has a parameter for, by the
            name of the kind, counts as input of a training step. Test images have those companions
            that the network itself names (``companion_sizes``), as far as there are any.
        evaluates: Whether anything is evaluated; otherwise no test image is read.
        add_parts: Adds what only this method needs in memory.

    Raises:
        ProtocolError: When a protocol cannot be used.
        ConfigError: When no test image has a companion that the network looks at.
        DatasetError: When a training image lacks a companion.
        MemoryLimitError: When the run needs more memory than it may have.
        ImageFileError: When images are damaged (unless they are to be skipped).
        OutputError: When the image cache cannot be written.
    """
    protocols = choose_protocols(dataset, config.protocols) if evaluates else ()
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
        companions=companions,
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
        companions=companion_sizes(network),
    )
    with progress_bar("reading test images", enabled=run.is_main) as progress:
        evaluator.open_images(progress)
    show = progress_bar("reading training images", enabled=run.is_main)
    with run.main_first(), show as progress:
        opened = open_accompanied(
            dataset.train,
            places.train,
            companions or {},
            crop_scale=scale,
            num_processes=run.world_size,
            progress=progress,
        )
    return DecodedImages(evaluator, opened.images, opened.samples, opened.companions)


def _crop_scale(augment: AugmentConfig) -> float | None:
    """Return the factor of the enlarged training images that random crops are cut from, if any."""
    return augment.crop_scale if augment.crop_prob else None
