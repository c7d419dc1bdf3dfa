"""Pseudo labels at the start of a stage: features of all training images, clusters, their quality.

Legend: N training images, D embedding size, S class scores of an image.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_core.commands.console import say
from reid_core.commands.progress import named_progress, progress_bar
from reid_core.data.cache import ImageCache
from reid_core.data.evaluation_loader import evaluation_batches
from reid_core.data.sample import Sample
from reid_core.engine import Run, broadcast_object
from reid_core.errors import ConfigError
from reid_core.evaluation import extract_features, own_share
from reid_core.memory import MemoryPlan
from reid_iics.batches import require_clusters
from reid_iics.clustering import ClusterRule, FixedClusters, ThresholdClusters
from reid_iics.clustering_memory import RERANKING, plan_pseudo_labels
from reid_iics.config import IICSConfig
from reid_iics.cycle import Place, StageName
from reid_iics.model import IICS, Heads
from reid_iics.pseudo_labels import PseudoLabels, inter_camera_labels, intra_camera_labels
from reid_iics.quality import ClusterQuality, cluster_quality
from reid_iics.schedule import mixing_rate
from reid_iics.stage import Stage

__all__ = ["Labeller", "add_labelling"]

logger = logging.getLogger(__name__)

_Progress = Callable[[str, int, int], None]

_SCORED_ROWS = 1024  # images whose scores are computed together


class Labeller:
    """Makes the labels of every stage from the training images and their cameras alone.

    Process 0 clusters; all processes embed their share of the images and get the same labels.
    Identities are looked at for the log only, where all are known.

    Args:
        run: The run.
        config: Its settings.
        images: Pixels of the training images, which are embedded as they are.
        samples: The training images.

    Raises:
        ConfigError: When no camera has enough images for a batch.
    """

    def __init__(
        self, run: Run, config: IICSConfig, images: ImageCache, samples: Sequence[Sample]
    ) -> None:
        self._run = run
        self._config = config
        self._images = images
        self._camids = np.array([sample.camid for sample in samples], np.int64)
        self._pids = np.array([sample.pid for sample in samples], np.int64)
        # Images without a label, or all with one and the same, tell nothing of quality.
        self._knows_people = bool(len(np.unique(self._pids)) > 1 and self._pids.min() >= 0)
        self._rows = self._choose_cameras()

    def __call__(self, model: IICS, stage: Stage, place: Place) -> list[PseudoLabels]:
        """Return the labels of the stage that begins.

        Args:
            model: The network as the stage before left it.
            stage: The stage before: stage 2 scores images with the heads of stage 1.
            place: First epoch of the stage.

        Raises:
            ClusteringError: Features are not finite, or all equal.
            ConfigError: There are too few clusters for a batch.
            MemoryLimitError: Clustering does not fit.
            PeerError: Another process has stopped.
        """
        begin = time.perf_counter()
        features = self._embed(model)
        labels: list[PseudoLabels] = []
        with self._run.main_first():
            if self._run.is_main:
                with named_progress() as progress:
                    if place.stage == "intra":
                        labels = self._intra(features, progress)
                    else:
                        scores = _score(stage.heads, features)
                        labels = [self._inter(features, scores, stage, place.cycle, progress)]
                self._report(labels, place, time.perf_counter() - begin)
        return broadcast_object(labels)

    def _choose_cameras(self) -> npt.NDArray[np.int64]:
        """Return the images of the cameras that have enough for a batch of stage 1.

        Fewer would mean an epoch without an iteration, silently so in the official code.
        """
        needed = self._config.intra.batch_size * self._run.world_size
        camids, sizes = np.unique(self._camids, return_counts=True)
        chosen = camids[sizes >= needed]
        if not len(chosen):
            raise ConfigError(
                f"none of {len(camids)} cameras has the {needed} training images that a batch of "
                f"stage 1 takes of each (the largest has {sizes.max()}). IICS needs to know "
                "which camera an image is from (column camid of a table); use a smaller "
                "--intra.batch-size, or more images"
            )
        if len(camids) == 1 and self._run.is_main:
            logger.warning(
                "all training images are of one camera: the network cannot learn to recognise "
                "people across cameras"
            )
        if len(chosen) < len(camids) and self._run.is_main:
            few = {int(camid): int(size) for camid, size in zip(camids, sizes, strict=True)}
            shown = ", ".join(f"{camid} ({size})" for camid, size in few.items() if size < needed)
            logger.warning(
                "cameras with fewer than %d training images are left out of stage 1: %s",
                needed,
                shown,
            )
        return np.flatnonzero(np.isin(self._camids, chosen))

    def _embed(self, model: IICS) -> Tensor:
        """Return z = (f(x) + f(mirrored x)) / 2 of all images, (N, D) float32, not normalised."""
        config, run, augment = self._config, self._run, self._config.augment
        # Not data.test_batch_size, which a continued run may change: features would be rounded
        # otherwise, and clusters differ. 64 is official, too.
        size, count = config.inter.batch_size, len(self._images)
        batches = evaluation_batches(
            self._images,
            batch_size=size,
            device=run.device,
            indices=own_share(count, size, run.rank, run.world_size),
            mean=augment.mean,
            std=augment.std,
        )
        with progress_bar("embedding training images", enabled=run.is_main) as progress:
            return extract_features(
                model.embed_flipped,
                batches,
                num_images=count,
                flip="none",
                normalize=False,
                progress=progress,
            )

    def _intra(self, features: Tensor, progress: _Progress) -> list[PseudoLabels]:
        config, rows = self._config, self._rows
        found = intra_camera_labels(
            features[torch.from_numpy(rows)],
            self._camids[rows],
            self._rule("intra"),
            rerank=RERANKING if config.rerank else None,
            legacy_small_cameras=config.intra.legacy_small_cameras,
            device=self._run.device,
            memory_limit=config.run.memory_limit,
            progress=progress,
        )
        return [replace(camera, images=rows[camera.images]) for camera in found]

    def _inter(
        self,
        features: Tensor,
        scores: Tensor,
        stage: Stage,
        cycle: int,
        progress: _Progress,
    ) -> PseudoLabels:
        config = self._config
        labels = inter_camera_labels(
            features,
            self._camids,
            self._rule("inter"),
            scores=scores,
            num_heads=len(stage.heads),
            mixing_rate=mixing_rate(
                cycle,
                num_cycles=config.cycles,
                initial=config.inter.mixing_rate,
                power=config.inter.mixing_power,
            ),
            rerank=RERANKING if config.rerank else None,
            device=self._run.device,
            memory_limit=config.run.memory_limit,
            progress=progress,
        )
        require_clusters(config, labels)
        return labels

    def _rule(self, stage: StageName) -> ClusterRule:
        settings = self._config.intra if stage == "intra" else self._config.inter
        if self._config.variant == "fixed":
            return FixedClusters(num_clusters=settings.clusters)
        return ThresholdClusters(share=settings.share)

    def _report(self, labels: Sequence[PseudoLabels], place: Place, seconds: float) -> None:
        """Log and print what the clusters are like."""
        quality = self._quality(labels)
        figures = {name: value for name, value in asdict(quality).items() if value is not None}
        values = {"cycle": place.cycle, place.stage: {**figures, "seconds": seconds}}
        self._run.log("clusters", place.first, values)
        whose = "each camera" if place.stage == "intra" else "all cameras"
        words = [
            f"{quality.num_clusters:,} clusters of {quality.num_images:,} images",
            f"{quality.num_singletons:,} of one image",
        ]
        shares = {
            "purity": quality.purity,
            "cross-camera pairs found": quality.cross_camera_recall,
        }
        words += [f"{name} {value:.1%}" for name, value in shares.items() if value is not None]
        if quality.ari is not None:
            words.append(f"ARI {quality.ari:.3f}")
        say(f"cycle {place.cycle + 1} of {self._config.cycles}, {whose}: {', '.join(words)}")

    def _quality(self, labels: Sequence[PseudoLabels]) -> ClusterQuality:
        """Compare the clusters with identities.

        Where every camera was clustered by itself, a person in another camera is another one.
        """
        rows = np.concatenate([part.images for part in labels])
        starts = np.cumsum([0, *(part.num_clusters for part in labels)])
        clusters = np.concatenate(
            [part.labels + start for part, start in zip(labels, starts[:-1], strict=True)]
        )
        if not self._knows_people:
            return cluster_quality(clusters)
        pids, camids = self._pids[rows], self._camids[rows]
        if len(labels) == 1 and labels[0].camid is None:
            return cluster_quality(clusters, pids, camids)
        return cluster_quality(clusters, pids * (camids.max() + 1) + camids)


def add_labelling(
    plan: MemoryPlan,
    config: IICSConfig,
    camids: Sequence[int],
    embedding_dim: int,
    device: torch.device,
) -> None:
    """Add what making labels and learning them needs to the plan of a run, the network aside.

    Args:
        plan: The account.
        config: Settings.
        camids: Camera of each training image.
        embedding_dim: D.
        device: Where the heads are trained; only what is on the CPU counts.
    """
    count, phase = len(camids), "while clustering"
    sizes = np.unique(np.asarray(camids), return_counts=True)[1]
    # The threshold makes about as many clusters; how many is known when they are made, and what
    # they need is checked once more then.
    num_scores = int(np.minimum(sizes, config.intra.clusters).sum())
    plan.add(
        f"features of the training images ({count:,} x {embedding_dim:,})",
        4 * count * embedding_dim,
        phase=phase,
    )
    plan.add(
        f"class scores of the training images ({count:,} x about {num_scores:,})",
        4 * count * num_scores,
        phase=phase,
    )
    if device.type == "cpu":
        # Those of one stage are made while those of the one before are still there.
        num_classes = num_scores + min(count, config.inter.clusters)
        plan.add(
            f"heads of both stages (about {num_classes:,} classes), their gradients and momentum",
            3 * 4 * num_classes * embedding_dim,
        )
    plan_pseudo_labels(plan, count, rerank=RERANKING if config.rerank else None)


def _score(heads: Heads, features: Tensor) -> Tensor:
    """Return the class scores (N, S) float32 of features (N, D), both on the CPU."""
    device = next(heads.parameters()).device
    heads.eval()
    with torch.inference_mode():
        parts = [
            heads.scores(rows.to(device)).cpu() for rows in torch.split(features, _SCORED_ROWS)
        ]
    heads.train()
    return torch.cat(parts)
