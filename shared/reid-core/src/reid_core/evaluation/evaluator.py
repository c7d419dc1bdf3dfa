"""A network on a data set: embed every split once, evaluate under several protocols."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reid_core.config import DataConfig
from reid_core.data.augment_config import IMAGENET_MEAN, IMAGENET_STD, Channels
from reid_core.data.cache import ImageCache
from reid_core.data.companion_images import SparseImages, open_companions
from reid_core.data.evaluation_loader import EvaluationBatch, evaluation_batches
from reid_core.data.opening import open_images
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.engine.distributed import World, main_first
from reid_core.evaluation.evaluate import ProtocolResult, evaluate_protocol
from reid_core.evaluation.features import extract_split_features, own_share
from reid_core.evaluation.missing import Missing, describe_missing, require_companions
from reid_core.evaluation.protocols.galleries import require_draws
from reid_core.evaluation.protocols.lookup import Protocol, splits_of
from reid_core.evaluation.protocols.permutations import Permutations
from reid_core.evaluation.reranking.config import RerankConfig
from reid_core.evaluation.sharding import own_columns
from reid_core.models.embedding import (
    all_features,
    companion_sizes,
    feature_names,
    num_parts,
    part_groups,
    part_network,
)

__all__ = ["Evaluation", "Evaluator"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Features of a data set's test splits, and what they are worth.

    Attributes:
        samples: Split name to samples; damaged images left out.
        features: Split name to (N, D) float32 unit features on the CPU; of a network with several
            features the headline, of a feature in parts all of them, each of length 1 or 0.
        results: One per protocol, of these features.
        variants: Another feature (``pool feature``), one group of parts (``face stream``), or what
            was added to the plain ranking (``re-ranking``, ``expansion``), to the results with it,
            in the order of ``results``.
        missing: Kind of companion that the network looks at to split name to the number of images
            that have none.
    """

    samples: Mapping[str, Sequence[Sample]]
    features: Mapping[str, Tensor]
    results: tuple[ProtocolResult, ...]
    variants: Mapping[str, tuple[ProtocolResult, ...]] = field(default_factory=dict)
    missing: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

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
        companions: ``companion_sizes`` of the networks. Only these kinds are opened.

    Raises:
        ConfigError: No image has a companion of one of the kinds.
        ProtocolError: The table is not given, or does not belong to these images.
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
        companions: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        self.protocols = tuple(protocols)
        self._rerank = rerank
        self._expand = expand
        self._evaluate_alone = partial(evaluate_protocol, permutations=permutations, device=device)
        self._memory_limit = memory_limit
        self._dataset = dataset
        self._data = data
        self._device = device
        self._world = world
        self._mean, self._std = mean, std
        self._images: dict[str, ImageCache] = {}
        self._sizes = dict(companions or {})
        self._companions: dict[str, dict[str, SparseImages]] = {}
        require_companions(dataset, splits_of(self.protocols, dataset.splits), self._sizes)
        require_draws(self.protocols, dataset.splits, permutations)

    def __call__(self, network: nn.Module, progress: Progress | None = None) -> Evaluation:
        """Embed the splits that the protocols need, and evaluate.

        Args:
            network: Module with ``embed``, from normalised images (B, 3, H, W) to features (B, D);
                it is held in evaluation mode. What ``reid_core.models.embedding`` says of several
                features, modalities, companions and parts holds here: all features are made in one
                pass, and of several groups of parts each is evaluated alone, too.
            progress: Called with (images embedded, images in all).

        Raises:
            ReIDError: Features cannot be made or compared.
            ValueError: The network looks at companions that this evaluator was not made for.
        """
        sizes = companion_sizes(network)
        if not sizes.items() <= self._sizes.items():
            raise ValueError(f"the network looks at {sizes}, the evaluator has {self._sizes}")
        self.open_images()
        samples = {
            name: cache.select(self._dataset.splits[name]) for name, cache in self._images.items()
        }
        found = extract_split_features(
            all_features(network),
            samples,
            partial(self._batches, samples, tuple(sizes)),
            flip=self._data.flip,
            progress=progress,
        )
        features = found
        if feature_names(network):
            features = {name: values[:, 0] for name, values in found.items()}
        compare = partial(self._compare, network, samples)
        results = compare(self._evaluate, features)
        variants = {}
        if self._world.is_main:  # the others have no part in them
            for index, name in enumerate(feature_names(network)[1:], 1):
                other = {split: values[:, index] for split, values in found.items()}
                variants[f"{name} feature"] = compare(self._evaluate_alone, other)
            variants |= self._evaluate_groups(network, samples, features)
            for name, options in self._additions().items():
                logger.info("evaluating with %s", name)
                variants[name] = compare(partial(self._evaluate_alone, **options), features)
        return Evaluation(
            samples=samples,
            features=features,
            results=results,
            variants=variants,
            missing=self._missing(sizes),
        )

    def open_images(self, progress: Progress | None = None) -> None:
        """Decode the images of all splits that are needed, unless that was done before.

        Args:
            progress: Called with (images done, images in all), split by split, images first and
                then each kind of companion.

        Raises:
            ImageFileError: When images are damaged (unless they are to be skipped).
            OutputError: When the image cache cannot be written.
        """
        for name in splits_of(self.protocols, self._dataset.splits):
            if name not in self._companions:
                self._open(name, progress)

    def _compare(
        self,
        network: nn.Module,
        samples: Mapping[str, Sequence[Sample]],
        evaluate: Callable[..., ProtocolResult],
        features: Mapping[str, Tensor],
    ) -> tuple[ProtocolResult, ...]:
        """Evaluate a network's features under all protocols, and say what is missing in them."""
        parts = num_parts(network)
        missing = self._missing(companion_sizes(network))
        counts = {name: len(found) for name, found in samples.items()}
        results = []
        for protocol in self.protocols:
            result = evaluate(protocol, samples, features, means_cosine=parts == 1)
            scoring = result.scoring
            if parts > 1:
                scoring = scoring.replace("cosine", f"sum of the cosines of {parts} parts")
            remarks = describe_missing(network, result, missing, counts)
            results.append(replace(result, scoring=scoring, remarks=remarks))
        return tuple(results)

    def _evaluate(
        self,
        protocol: Protocol,
        samples: Mapping[str, Sequence[Sample]],
        features: Mapping[str, Tensor],
        **options: Any,
    ) -> ProtocolResult:
        """Evaluate a protocol; every process compares the queries with its part of the gallery."""
        world, columns = self._world, None
        if world.world_size > 1 and protocol.query != protocol.gallery and not protocol.trial_lists:
            columns = own_columns(len(samples[protocol.gallery]), world.rank, world.world_size)
            part = features[protocol.gallery][slice(*columns)]
            features = {**features, protocol.gallery: part}
        return self._evaluate_alone(protocol, samples, features, columns=columns, **options)

    def _evaluate_groups(
        self,
        network: nn.Module,
        samples: Mapping[str, Sequence[Sample]],
        features: Mapping[str, Tensor],
    ) -> dict[str, tuple[ProtocolResult, ...]]:
        """Evaluate every group of parts alone, where there are several."""
        groups = part_groups(network)
        variants, first = {}, 0
        for name, count in groups.items() if len(groups) > 1 else ():
            dim = next(iter(features.values())).shape[1] // num_parts(network)
            last = first + count * dim
            own = {split: values[:, first:last].contiguous() for split, values in features.items()}
            alone = part_network(network, name)
            variants[f"{name} stream"] = self._compare(alone, samples, self._evaluate_alone, own)
            first = last
        return variants

    def _additions(self) -> dict[str, dict[str, Any]]:
        """Return what is to be added to the plain ranking, by the name of the variant."""
        wanted: dict[str, dict[str, Any]] = {}
        if self._expand:
            wanted["expansion"] = {"expand": self._expand}
        if self._rerank is not None:
            wanted["re-ranking"] = {"rerank": self._rerank, "memory_limit": self._memory_limit}
        return wanted

    def _missing(self, kinds: Iterable[str]) -> Missing:
        """Return the numbers of images without a companion, by kind and split."""
        return {
            kind: {
                name: int((~companions[kind].present).sum())
                for name, companions in self._companions.items()
            }
            for kind in kinds
        }

    def _batches(
        self, samples: Mapping[str, Sequence[Sample]], kinds: Sequence[str], name: str
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
            companions=[self._companions[name][kind] for kind in kinds],
            mean=self._mean,
            std=self._std,
        )

    def _open(self, name: str, progress: Progress | None) -> None:
        with main_first(self._world):
            split, count = self._dataset.splits[name], self._world.world_size
            images = open_images(split, self._data, num_processes=count, progress=progress)
            samples = images.select(split)
            self._companions[name] = {
                kind: open_companions(
                    samples, kind, size, self._data, num_processes=count, progress=progress
                )
                for kind, size in self._sizes.items()
            }
            self._images[name] = images
