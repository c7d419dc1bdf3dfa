"""A network on a data set: embed every split once, evaluate under several protocols."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reid_core.config import DataConfig
from reid_core.data.augment_config import IMAGENET_MEAN, IMAGENET_STD, Channels
from reid_core.data.cache import ImageCache
from reid_core.data.evaluation_loader import EvaluationBatch, evaluation_batches
from reid_core.data.opening import open_images
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.engine.distributed import World, main_first
from reid_core.evaluation.evaluate import ProtocolResult, evaluate_protocol
from reid_core.evaluation.features import extract_split_features, own_share
from reid_core.evaluation.protocols.lookup import Protocol, splits_of
from reid_core.evaluation.protocols.permutations import Permutations
from reid_core.evaluation.reranking.config import RerankConfig
from reid_core.evaluation.sharding import own_columns
from reid_core.models.embedding import all_features, feature_names

__all__ = ["Evaluation", "Evaluator"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Features of a data set's test splits, and what they are worth.

    Attributes:
        samples: Split name to samples; damaged images left out.
        features: Split name to (N, D) float32 unit features on the CPU; of a network with several
            features the headline.
        results: One per protocol, of these features.
        variants: Another feature (``pool feature``), or what was added to the plain ranking
            (``re-ranking``, ``expansion``), to the results with it, in the order of ``results``.
    """

    samples: Mapping[str, Sequence[Sample]]
    features: Mapping[str, Tensor]
    results: tuple[ProtocolResult, ...]
    variants: Mapping[str, tuple[ProtocolResult, ...]] = field(default_factory=dict)

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return protocol name to figures of the plain ranking of the headline, ready for JSON."""
        return {result.protocol.name: result.summary() for result in self.results}


class Evaluator:
    """Evaluates networks on one data set; decodes its images once.

    Args:
        dataset: The data set.
        protocols: From ``choose_protocols``.
        data: Image size, batch size, mirror images, place of the image cache.
        device: Where the networks are.
        world: This process; every process embeds its part and all get all features.
        mean: Per channel, of values in [0, 1].
        std: Per channel, of values in [0, 1].
        rerank: Settings of re-ranking, which is evaluated beside the plain ranking.
        expand: Gallery images of query expansion, evaluated beside the plain ranking; 0 for none.
        permutations: The table of the data set's authors, for ``sysu/..._official``.
        memory_limit: Bytes that re-ranking may use beyond the features.
    """

    def __init__(
        self,
        dataset: ReIDDataset,
        protocols: Sequence[Protocol],
        data: DataConfig,
        *,
        device: torch.device,
        world: World,
        mean: Channels = IMAGENET_MEAN,
        std: Channels = IMAGENET_STD,
        rerank: RerankConfig | None = None,
        expand: int = 0,
        permutations: Permutations | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self.protocols = tuple(protocols)
        self._rerank = rerank
        self._expand = expand
        self._permutations = permutations
        self._memory_limit = memory_limit
        self._dataset = dataset
        self._data = data
        self._device = device
        self._world = world
        self._mean, self._std = mean, std
        self._images: dict[str, ImageCache] = {}

    def __call__(self, network: nn.Module, progress: Progress | None = None) -> Evaluation:
        """Embed the splits that the protocols need, and evaluate.

        Args:
            network: Module with ``embed``, from normalised images (B, 3, H, W) to features (B, D);
                it is held in evaluation mode. What ``reid_core.models.embedding`` says of several
                features and of modalities holds here: all features are made in one pass.
            progress: Called with (images embedded, images in all).

        Raises:
            ReIDError: Features cannot be made or compared.
        """
        self.open_images()
        samples = {
            name: cache.select(self._dataset.splits[name]) for name, cache in self._images.items()
        }
        found = extract_split_features(
            all_features(network),
            samples,
            partial(self._batches, samples),
            flip=self._data.flip,
            progress=progress,
        )
        others = feature_names(network)[1:]
        features = found
        if feature_names(network):
            features = {name: values[:, 0] for name, values in found.items()}
        results = tuple(self._evaluate(protocol, samples, features) for protocol in self.protocols)
        variants = {}
        if self._world.is_main:  # the others have no part in them
            for index, name in enumerate(others, 1):
                other = {split: values[:, index] for split, values in found.items()}
                variants[f"{name} feature"] = self._evaluate_alone(samples, other)
            variants |= self._evaluate_variants(samples, features)
        return Evaluation(samples=samples, features=features, results=results, variants=variants)

    def open_images(self, progress: Progress | None = None) -> None:
        """Decode the images of all splits that are needed, unless that was done before.

        Args:
            progress: Called with (images done, images in all), split by split.

        Raises:
            ImageFileError: When images are damaged (unless they are to be skipped).
            OutputError: When the image cache cannot be written.
        """
        for name in splits_of(self.protocols, self._dataset.splits):
            if name not in self._images:
                self._images[name] = self._open(name, progress)

    def _evaluate(
        self,
        protocol: Protocol,
        samples: Mapping[str, Sequence[Sample]],
        features: Mapping[str, Tensor],
    ) -> ProtocolResult:
        """Evaluate a protocol; every process compares the queries with its part of the gallery."""
        world, columns = self._world, None
        if world.world_size > 1 and protocol.query != protocol.gallery and not protocol.trial_lists:
            columns = own_columns(len(samples[protocol.gallery]), world.rank, world.world_size)
            part = features[protocol.gallery][slice(*columns)]
            features = {**features, protocol.gallery: part}
        return evaluate_protocol(
            protocol,
            samples,
            features,
            permutations=self._permutations,
            device=self._device,
            columns=columns,
        )

    def _evaluate_alone(
        self,
        samples: Mapping[str, Sequence[Sample]],
        features: Mapping[str, Tensor],
        **options: Any,
    ) -> tuple[ProtocolResult, ...]:
        """Evaluate all protocols in this process."""
        return tuple(
            evaluate_protocol(
                protocol,
                samples,
                features,
                permutations=self._permutations,
                device=self._device,
                **options,
            )
            for protocol in self.protocols
        )

    def _evaluate_variants(
        self, samples: Mapping[str, Sequence[Sample]], features: Mapping[str, Tensor]
    ) -> dict[str, tuple[ProtocolResult, ...]]:
        """Evaluate all protocols with what is to be added to the plain ranking."""
        wanted: dict[str, dict[str, Any]] = {}
        if self._expand:
            wanted["expansion"] = {"expand": self._expand}
        if self._rerank is not None:
            wanted["re-ranking"] = {"rerank": self._rerank, "memory_limit": self._memory_limit}
        variants = {}
        for name, options in wanted.items():
            logger.info("evaluating with %s", name)
            variants[name] = self._evaluate_alone(samples, features, **options)
        return variants

    def _batches(
        self, samples: Mapping[str, Sequence[Sample]], name: str
    ) -> Iterator[EvaluationBatch]:
        images = self._images[name]
        world = self._world
        return evaluation_batches(
            images,
            batch_size=self._data.test_batch_size,
            device=self._device,
            indices=own_share(
                len(images), self._data.test_batch_size, world.rank, world.world_size
            ),
            infrared=np.array([sample.modality == "infrared" for sample in samples[name]]),
            mean=self._mean,
            std=self._std,
        )

    def _open(self, name: str, progress: Progress | None) -> ImageCache:
        with main_first(self._world):
            return open_images(
                self._dataset.splits[name],
                self._data,
                num_processes=self._world.world_size,
                progress=progress,
            )
