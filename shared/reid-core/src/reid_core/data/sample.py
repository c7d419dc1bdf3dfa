"""The record of one image and of one data set; the types that every reader returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "Modality",
    "ReIDDataset",
    "Sample",
    "count_clothes",
    "count_pids",
    "pid2clothes",
    "relabel",
]

Modality = Literal["visible", "infrared"]

_NO_EXTRA: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of one person.

    Attributes:
        path: Image file, or a row of a file of images (``array_rows``).
        pid: Person identity. Training splits are relabelled 0..N-1; test splits keep raw ids.
        camid: Camera, from 0. Where a data set has no cameras its reader says what stands here.
        clothes_id: Outfit label, or -1 where there is none. Never shared between two people.
        modality: ``visible`` or ``infrared``.
        extra: What only one data set or method knows (mask path, face box, tracklet, ...).
    """

    path: Path
    pid: int
    camid: int
    clothes_id: int = -1
    modality: Modality = "visible"
    extra: Mapping[str, Any] = field(default_factory=lambda: _NO_EXTRA, hash=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled, and worker processes (spawn) need samples.
        values = (self.path, self.pid, self.camid, self.clothes_id, self.modality, dict(self.extra))
        return (Sample, values)


@dataclass(frozen=True, kw_only=True)
class ReIDDataset:
    """A data set as its reader found it on disk.

    Attributes:
        name: Registered name, e.g. ``ltcc``.
        root: The data set's own folder, e.g. ``.../LTCC_ReID``.
        splits: Split name to samples. ``train`` is relabelled; test splits (``query``, ``gallery``,
            ``query_same``, ``val_query``, ...) hold raw ids. Protocols name the splits they use.
            Of several trials each has its own: ``train_1``, ``test_1``, ``train_2``, ...
        synthetic: True where the images were generated; shown beside every result.
        notes: Sentences on what differs from the official split table; empty where nothing does.
    """

    name: str
    root: Path
    splits: Mapping[str, Sequence[Sample]]
    synthetic: bool = False
    notes: tuple[str, ...] = ()

    @property
    def train(self) -> Sequence[Sample]:
        """The training samples; empty where the data set has none."""
        return self.splits.get("train", ())

    @property
    def num_pids(self) -> int:
        """Number of identities in the training split."""
        return count_pids(self.train)

    @property
    def num_clothes(self) -> int:
        """Number of outfits in the training split; 0 where it has no outfit labels."""
        return count_clothes(self.train)


def count_pids(samples: Iterable[Sample]) -> int:
    """Count distinct identities."""
    return len({sample.pid for sample in samples})


def count_clothes(samples: Iterable[Sample]) -> int:
    """Count distinct outfit labels, -1 (no label) left out."""
    return len({sample.clothes_id for sample in samples if sample.clothes_id >= 0})


def relabel(keys: Iterable[Any], sort_key: Callable[[Any], Any] | None = None) -> dict[Any, int]:
    """Map each distinct key to 0..N-1 in sorted order.

    Args:
        keys: Hashable keys; duplicates are welcome.
        sort_key: As in ``sorted``; identities sort as integers, outfit keys as strings.

    Returns:
        Key to label.
    """
    return {key: label for label, key in enumerate(sorted(set(keys), key=sort_key))}


def pid2clothes(samples: Sequence[Sample]) -> npt.NDArray[np.bool_]:
    """Tell which identity wears which outfit in a relabelled training split.

    Args:
        samples: Samples with identities 0..P-1 and outfits 0..N-1.

    Returns:
        (P, N) bool, true where identity p is seen in outfit n. Samples without an outfit label
        (-1) leave no trace.
    """
    # Imported here because commands read samples before they can afford to load NumPy.
    import numpy as np

    num_pids = max((sample.pid for sample in samples), default=-1) + 1
    num_clothes = max((sample.clothes_id for sample in samples), default=-1) + 1
    table = np.zeros((num_pids, num_clothes), dtype=np.bool_)
    labelled = [(sample.pid, sample.clothes_id) for sample in samples if sample.clothes_id >= 0]
    if labelled:
        pids, clothes = np.array(labelled, dtype=np.int64).T
        table[pids, clothes] = True
    return table
