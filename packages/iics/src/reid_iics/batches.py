"""Which images make the batches of a stage, and the loaders that deliver them.

Legend: N training images, C cameras in stage 1, B images of each in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from reid_core.data.augment import BatchAugment
from reid_core.data.cache import ImageCache
from reid_core.data.loader import EpochSampler, TrainLoader
from reid_core.data.sample import Sample
from reid_core.data.samplers import DistinctIdentitySampler, Indices
from reid_core.engine import Run
from reid_core.errors import ConfigError
from reid_iics.config import IICSConfig
from reid_iics.pseudo_labels import PseudoLabels

__all__ = ["CameraSampler", "inter_loader", "intra_loader", "require_clusters"]


# Without it the numbers would be those that the loader draws from for its batch ``number``.
_STREAM = (1,)


class CameraSampler:
    """Batches of B images of every camera, side by side (stage 1, official).

    Per epoch the images of each camera are shuffled and cut into batches of B, the remainder is
    left out. Iteration i takes batch i of every camera, in their order; the epoch ends with the
    camera that has the fewest. Processes get the iterations in turn.

    Stateless, as all samplers of ``reid_core.data.samplers``.

    Args:
        cameras: Positions of the images of each camera.
        batch_size: B.
        seed: Not negative.
        rank: This process.
        world_size: Number of processes.

    Raises:
        ConfigError: There is no camera, or one has fewer than B images for each process.
    """

    def __init__(
        self,
        cameras: Sequence[Indices],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        smallest = min((len(images) for images in cameras), default=0)
        if smallest < batch_size * world_size:
            raise ConfigError(
                f"{len(cameras)} cameras, the smallest with {smallest} images: an iteration of "
                f"stage 1 takes {batch_size} images of each for each of {world_size} process(es)"
            )
        self._cameras = tuple(cameras)
        self._batch_size = batch_size
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._num_steps = smallest // batch_size // world_size

    def __len__(self) -> int:
        """Return the number of indices that this process gets in every epoch."""
        return self._num_steps * self._batch_size * len(self._cameras)

    def epoch(self, epoch: int) -> Indices:
        """Return this process's order of image indices in one epoch.

        Args:
            epoch: Number of the epoch, from 0.

        Returns:
            (len(self),) int64; each run of B belongs to one camera, each run of C B to all.
        """
        count = self._num_steps * self._world_size * self._batch_size
        dealt = []
        for number, images in enumerate(self._cameras):
            # A generator for each camera: its order does not depend on the other cameras.
            entropy = np.random.SeedSequence([self._seed, epoch, number], spawn_key=_STREAM)
            rng = np.random.default_rng(entropy)
            dealt.append(rng.permutation(images)[:count].reshape(-1, self._batch_size))
        steps = np.stack(dealt, axis=1)  # (iterations, C, B)
        return steps[self._rank :: self._world_size].reshape(-1)


def intra_loader(
    run: Run,
    config: IICSConfig,
    images: ImageCache,
    samples: Sequence[Sample],
    labels: Sequence[PseudoLabels],
) -> TrainLoader:
    """Return the loader of stage 1: batches of C B images, camera after camera.

    Args:
        run: The run.
        config: Its settings.
        images: Pixels of the training images.
        samples: The training images.
        labels: Clusters of each camera; a batch's ``pids`` are theirs.
    """
    sampler = CameraSampler(
        [camera.images for camera in labels],
        config.intra.batch_size,
        config.run.seed,
        run.rank,
        run.world_size,
    )
    size = config.intra.batch_size * len(labels)
    return _loader(run, config, images, _labelled(samples, labels), sampler, size)


def inter_loader(
    run: Run,
    config: IICSConfig,
    images: ImageCache,
    samples: Sequence[Sample],
    labels: PseudoLabels,
) -> TrainLoader:
    """Return the loader of stage 2: batches of P different clusters with K images each (official).

    Args:
        run: The run.
        config: Its settings.
        images: Pixels of the training images.
        samples: The training images.
        labels: Clusters of all of them; a batch's ``pids`` are theirs.
    """
    sampler = DistinctIdentitySampler(
        labels.labels.tolist(),
        config.inter.batch_size,
        config.inter.num_instances,
        config.run.seed,
        run.rank,
        run.world_size,
    )
    size = config.inter.batch_size
    return _loader(run, config, images, _labelled(samples, [labels]), sampler, size)


def require_clusters(config: IICSConfig, labels: PseudoLabels) -> None:
    """Refuse clusters of all images that do not fill a batch of stage 2.

    Raises:
        ConfigError: When there are too few; the message says what to change.
    """
    inter, found = config.inter, labels.num_clusters
    needed = inter.batch_size // inter.num_instances
    if found >= needed:
        return
    more = (
        f"a larger --inter.clusters (now {inter.clusters})"
        if config.variant == "fixed"
        else f"a smaller --inter.share (now {inter.share})"
    )
    advice = f"Use {more}, or more images"
    if found >= 2:
        advice = f"Use --inter.batch-size {found * inter.num_instances}, {more}, or more images"
    raise ConfigError(
        f"the {len(labels.labels)} training images form {found} cluster(s), but a batch of stage 2 "
        f"({inter.batch_size} images, {inter.num_instances} of each cluster) holds {needed} "
        f"different ones. {advice}"
    )


def _labelled(samples: Sequence[Sample], labels: Sequence[PseudoLabels]) -> list[Sample]:
    """Return the samples with clusters in place of identities, which training never sees."""
    clusters = np.full(len(samples), -1, np.int64)
    for part in labels:
        clusters[part.images] = part.labels
    return [
        replace(sample, pid=cluster)
        for sample, cluster in zip(samples, clusters.tolist(), strict=True)
    ]


def _loader(
    run: Run,
    config: IICSConfig,
    images: ImageCache,
    samples: Sequence[Sample],
    sampler: EpochSampler,
    batch_size: int,
) -> TrainLoader:
    return TrainLoader(
        images,
        samples,
        sampler,
        BatchAugment(config.augment, config.data.height, config.data.width),
        batch_size=batch_size,
        device=run.device,
        seed=config.run.seed,
        rank=run.rank,
    )
