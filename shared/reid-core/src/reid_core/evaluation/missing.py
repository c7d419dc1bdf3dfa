"""Companions that images lack: what may be missing, and what is said of it beside the figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from reid_core.data.companions import COMPANION_NAMES
from reid_core.data.sample import ReIDDataset
from reid_core.errors import ConfigError
from reid_core.evaluation.protocol_result import ProtocolResult
from reid_core.models.embedding import companion_sizes, num_parts, part_groups, part_network

__all__ = ["Missing", "describe_missing", "require_companions"]

Missing = Mapping[str, Mapping[str, int]]
"""Kind of companion to split name to the number of images that have none."""


def require_companions(dataset: ReIDDataset, splits: Iterable[str], kinds: Iterable[str]) -> None:
    """Refuse a data set none of whose images has a companion of one of the kinds.

    Single images may lack theirs; where all do, the folder was left out or is the wrong one.

    Args:
        dataset: The data set.
        splits: The splits that are needed.
        kinds: What the network looks at beside each image.

    Raises:
        ConfigError: Says how companions are given.
    """
    samples = [sample for name in splits for sample in dataset.splits[name]]
    for kind in kinds:
        if samples and not any(kind in sample.extra for sample in samples):
            raise ConfigError(
                f"the network looks at a {COMPANION_NAMES[kind]} beside each image ({kind}), and "
                f"none of the {len(samples):,} test images of {dataset.name} in {dataset.root} "
                "has one; name the folder that deskpro-prepare made of this data set with "
                "--prepared DIR (--data.prepared DIR in training)"
            )


def describe_missing(
    network: nn.Module, result: ProtocolResult, missing: Missing, counts: Mapping[str, int]
) -> tuple[str, ...]:
    """Say in sentences how many images of the splits that were compared lack a companion.

    Args:
        network: The network whose features were compared.
        result: The result.
        missing: What the images lack.
        counts: Split name to number of images.
    """
    remarks = []
    for kind, lacking in missing.items():
        phrases = []
        for role, splits in _roles(result).items():
            num_missing = sum(lacking[split] for split in splits)
            if num_missing:
                total = sum(counts[split] for split in splits)
                phrases.append(f"{num_missing:,} of {total:,} {role} images")
        if phrases:
            what = f"{' and '.join(phrases)} have no {COMPANION_NAMES[kind]}"
            remarks.append(f"{what}; {_consequence(network, kind)}")
    return tuple(remarks)


def _roles(result: ProtocolResult) -> dict[str, set[str]]:
    """Return the splits whose images search, and those whose images are searched."""
    pairs = [result.protocol.splits_of_trial(number) for number in result.numbers]
    queries, galleries = ({*names} for names in zip(*pairs, strict=True))
    return {"test": queries} if queries == galleries else {"query": queries, "gallery": galleries}


def _consequence(network: nn.Module, kind: str) -> str:
    """Return what becomes of an image that lacks a companion."""
    if num_parts(network) == 1:
        return "the network sees zeros in its place"
    groups = part_groups(network)
    if any(kind not in companion_sizes(part_network(network, group)) for group in groups):
        return "they are compared by their other parts"
    return "their score with every image is 0, and ties count against the match"
