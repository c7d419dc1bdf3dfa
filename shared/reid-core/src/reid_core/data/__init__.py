"""Data: records, readers, synthetic people, image cache, augmentation, samplers, loaders.

Only what needs no torch is imported here; the input pipeline is imported by its full name, e.g.
``from reid_core.data.loader import TrainLoader``.
"""

from __future__ import annotations

from reid_core.data.fingerprint import fingerprint
from reid_core.data.readers import (
    DATASET_NAMES,
    READERS,
    detect_datasets,
    find_dataset,
    load_dataset,
)
from reid_core.data.requirements import require_trainable
from reid_core.data.sample import ReIDDataset, Sample, pid2clothes, relabel

__all__ = [
    "DATASET_NAMES",
    "READERS",
    "ReIDDataset",
    "Sample",
    "detect_datasets",
    "find_dataset",
    "fingerprint",
    "load_dataset",
    "pid2clothes",
    "relabel",
    "require_trainable",
]
