"""The companions that DeskPro trains with: found, required, and what they do to the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from reid_core.commands.arguments import EvaluateArguments
from reid_core.config import DataConfig
from reid_core.data.companions import (
    COMPANION_KINDS,
    COMPANION_NAMES,
    companions_of,
    has_companions,
)
from reid_core.data.naming import is_synthetic, name_dataset
from reid_core.data.requirements import require_trainable
from reid_core.data.sample import ReIDDataset, Sample, relabel
from reid_core.errors import DatasetError

__all__ = [
    "complete_arguments",
    "describe_prepared",
    "identities_of",
    "keep_prepared",
    "with_synthetic_companions",
]

Progress = Callable[[str, int, int], None]


def keep_prepared(dataset: ReIDDataset) -> ReIDDataset:
    """Keep the training images that have all companions, and label the people who are left.

    Official behaviour, whatever streams are trained: an image without one of them is not trained
    on, a person without images disappears, and labels are the ranks of the identities' texts ("1" <
    "10" < "2"). Test images are not touched.

    Args:
        dataset: With companions (``attach_companions``); prepared data sets pass unchanged.

    Raises:
        DatasetError: When no image has all of them, or fewer than two people are left.
    """
    kept = [sample for sample in dataset.train if has_companions(sample)]
    if not kept:
        raise DatasetError(_describe_missing(dataset))
    names = _names_of(dataset.train)
    labels = relabel(names[sample.pid] for sample in kept)
    train = []
    for sample in kept:
        name = names[sample.pid]
        # With its text, so that a teacher of other people cannot pass for one of these.
        train.append(replace(sample, pid=labels[name], extra={**sample.extra, "identity": name}))
    found = replace(dataset, splits={**dataset.splits, "train": train})
    require_trainable(found)
    return found


def identities_of(dataset: ReIDDataset) -> tuple[str, ...]:
    """Return the texts of the training identities in the order of their labels.

    Args:
        dataset: As its reader returned it, or of ``keep_prepared``.
    """
    names = _names_of(dataset.train)
    return tuple(names[pid] for pid in sorted(names))


def describe_prepared(before: ReIDDataset, after: ReIDDataset) -> str:
    """Say what ``keep_prepared`` kept, for people."""
    kinds = " and ".join([", ".join(_KIND_NAMES[:-1]), _KIND_NAMES[-1]])
    return (
        f"{len(after.train):,} of {len(before.train):,} training images have {kinds}: "
        f"{after.num_pids:,} of {before.num_pids:,} people are trained on"
    )


def with_synthetic_companions(data: DataConfig, progress: Progress) -> DataConfig:
    """Prepare a synthetic data set, unless its prepared folder is named; others stay as they are.

    Args:
        data: Which images.
        progress: Called with what is done, how much of it and how much in all.

    Raises:
        ReIDError: When it cannot be made.
    """
    if data.prepared is not None or not is_synthetic(data.root):
        return data
    from reid_deskpro.prepare import ensure_prepared

    folder = ensure_prepared(data.dataset, size=data.synthetic_size, progress=progress)
    return replace(data, prepared=folder)


def complete_arguments(arguments: EvaluateArguments) -> EvaluateArguments:
    """Return the arguments of an evaluation with the prepared folder of a synthetic data set."""
    if arguments.prepared is not None or not is_synthetic(arguments.data):
        return arguments
    from reid_core.commands.progress import named_progress

    dataset = arguments.dataset or name_dataset(arguments.data)
    data = DataConfig(root=arguments.data, dataset=dataset, synthetic_size=arguments.synthetic_size)
    with named_progress() as progress:
        return replace(arguments, prepared=with_synthetic_companions(data, progress).prepared)


_KIND_NAMES = [COMPANION_NAMES[kind] for kind in COMPANION_KINDS]


def _names_of(samples: Sequence[Sample]) -> dict[int, str]:
    """Return label to the identity's text; where readers keep none, the label itself, padded."""
    digits = len(str(max((sample.pid for sample in samples), default=0)))
    return {
        sample.pid: str(sample.extra.get("identity", f"{sample.pid:0{digits}d}"))
        for sample in samples
    }


def _describe_missing(dataset: ReIDDataset) -> str:
    counts = {
        kind: sum(kind in companions_of(sample) for sample in dataset.train)
        for kind in COMPANION_KINDS
    }
    found = ", ".join(f"{COMPANION_NAMES[kind]}: {count:,}" for kind, count in counts.items())
    return (
        f"{dataset.name} in {dataset.root}: of {len(dataset.train):,} training images none has all "
        f"companions that DeskPro learns from ({found}). Make them with `deskpro-prepare --data "
        f"ROOT --dataset {dataset.name} --parsing LABEL_MAPS --restored FACES --out P` (or --hr "
        "fallback instead of restored faces) and train with --prepared P, or use a prepared data "
        "set of the authors (--dataset prcc_lr_hr_mask)"
    )
