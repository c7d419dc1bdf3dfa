"""From files of features and protocols to results, within the memory that there is."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from reid_core.commands.ranking_budget import add_ranking, open_plan, rerank_limit
from reid_core.engine.distributed import World
from reid_core.evaluation.cli import FeatureArguments
from reid_core.evaluation.counting.scorer import Metric as RankMetric
from reid_core.evaluation.evaluate import evaluate_protocol
from reid_core.evaluation.protocol_result import ProtocolResult
from reid_core.evaluation.protocols.definition import Protocol
from reid_core.evaluation.protocols.permutations import Permutations
from reid_core.evaluation.sharding import own_columns
from reid_core.evaluation.tables.feature_matrix import (
    copy_bytes,
    describe_rows,
    load_features,
    survey_rows,
)
from reid_core.evaluation.tables.feature_table import RowLabels, SplitRows

__all__ = ["Chosen", "Evaluated", "evaluate_chosen"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """A protocol with the rows that it needs.

    Attributes:
        protocol: The protocol.
        splits: Split name to rows; the same object where protocols share a split.
        labels: Split name to labels.
    """

    protocol: Protocol
    splits: Mapping[str, SplitRows]
    labels: Mapping[str, RowLabels]

    @property
    def is_for_one(self) -> bool:
        """Whether one process evaluates it alone: queries and gallery are one split, or many."""
        return self.protocol.query == self.protocol.gallery or self.protocol.trial_lists

    def columns(self, world: World) -> tuple[int, int] | None:
        """Return the rows of the gallery that this process compares; None for all."""
        if world.world_size == 1 or self.is_for_one:
            return None
        return own_columns(len(self.splits[self.protocol.gallery]), world.rank, world.world_size)


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluated:
    """A protocol's result.

    Attributes:
        chosen: The protocol.
        variant: What was added to the plain ranking: ``re-ranking``, ``expansion``, or nothing.
        result: The result.
        features: Split name to features as they were compared; of process 0 all of them.
    """

    chosen: Chosen
    variant: str
    result: ProtocolResult
    features: Mapping[str, Tensor]


def evaluate_chosen(
    chosen: Sequence[Chosen],
    arguments: FeatureArguments,
    *,
    permutations: Permutations | None,
    device: torch.device,
    world: World,
) -> tuple[list[Evaluated], list[str]]:
    """Evaluate protocols one after the other; features of a split are prepared once.

    In a process group all processes call this. Process 0 holds all features, the others all
    queries and their part of the gallery. What is for one process (``Chosen.is_for_one``,
    re-ranking, expansion) is done by process 0.

    Args:
        chosen: The protocols.
        arguments: Metric, memory limit, variants.
        permutations: The table of SYSU-MM01's authors, where it was given.
        device: Where products are computed.
        world: This process.

    Returns:
        The results, of each protocol the plain one, then its variants; and what was done to the
        features.

    Raises:
        ReIDError: Features are not finite, or need more memory than there is.
    """
    own = [item for item in chosen if world.is_main or not item.is_for_one]
    if not own:
        return [], []
    store = _FeatureStore(own, arguments, device, world)
    metric: RankMetric = "euclidean" if arguments.metric == "euclidean" else "inner_product"
    evaluated = []
    for item in own:
        held, columns = store.features_of(item), item.columns(world)
        compared = held
        if columns is not None and world.is_main:
            name = item.protocol.gallery
            compared = {**held, name: held[name][slice(*columns)]}
        evaluate = partial(
            evaluate_protocol,
            item.protocol,
            item.labels,
            permutations=permutations,
            metric=metric,
            device=device,
            means_cosine=arguments.metric == "cosine",
        )
        found = {"": evaluate(compared, columns=columns)}
        if arguments.expand and world.is_main:
            found["expansion"] = evaluate(held, expand=arguments.expand)
        if arguments.rerank_config is not None and world.is_main:
            found["re-ranking"] = evaluate(
                held, rerank=arguments.rerank_config, memory_limit=store.rerank_limit
            )
        evaluated += [
            Evaluated(chosen=item, variant=variant, result=result, features=held)
            for variant, result in found.items()
        ]
    return evaluated, store.notes


class _FeatureStore:
    """The features that this process holds: prepared once for all protocols, within its memory.

    Args:
        chosen: The protocols that this process works on.
        arguments: Metric, memory limit.
        device: Where products are computed.
        world: This process.

    Attributes:
        notes: What was done to the features.
        rerank_limit: Bytes that re-ranking may use beyond the features.

    Raises:
        FeatureFileError: Features are not finite.
        MemoryLimitError: They do not fit.
    """

    def __init__(
        self,
        chosen: Sequence[Chosen],
        arguments: FeatureArguments,
        device: torch.device,
        world: World,
    ) -> None:
        self.notes: list[str] = []
        self._cuts: dict[tuple[SplitRows, tuple[int, int]], SplitRows] = {}
        self._rows = {item: self._held_rows(item, world) for item in chosen}
        names = {rows: name for held in self._rows.values() for name, rows in held.items()}
        # Opened before mapped files are read, whose pages would be taken for memory in use.
        plan = open_plan("evaluation", arguments.memory_limit, device, world)
        surveys = {rows: [survey_rows(part) for part in rows.parts] for rows in names}
        for rows, name in names.items():
            num_bytes = copy_bytes(rows.parts, surveys[rows], arguments.metric)
            if num_bytes:
                mapped = any(part.table.is_mapped for part in rows.parts)
                remedy = "--normalize-into FOLDER, which writes a copy to map" if mapped else ""
                plan.add(f"{name}, {len(rows):,} rows as float32", num_bytes, remedy=remedy)
        add_ranking(
            plan,
            [
                (item.protocol, {name: len(rows) for name, rows in item.splits.items()})
                for item in chosen
            ],
            next(iter(names)).parts[0].dim,
            rerank=arguments.rerank_config,
            expand=arguments.expand,
        )
        plan.require("evaluation")
        self.rerank_limit = rerank_limit(plan)
        self._features = {
            rows: load_features(rows.parts, surveys[rows], arguments.metric) for rows in names
        }
        if world.is_main:
            for rows, name in names.items():
                for note in describe_rows(name, rows.parts, surveys[rows], arguments.metric):
                    logger.info("%s", note)
                    self.notes.append(note)

    def features_of(self, item: Chosen) -> dict[str, Tensor]:
        """Return split name to features: all, or this process's part of the gallery."""
        return {name: self._features[rows] for name, rows in self._rows[item].items()}

    def _held_rows(self, item: Chosen, world: World) -> dict[str, SplitRows]:
        held = dict(item.splits)
        columns = item.columns(world)
        if columns is not None and not world.is_main:
            key = (held[item.protocol.gallery], columns)
            held[item.protocol.gallery] = self._cuts.setdefault(key, key[0].part(*columns))
        return held
