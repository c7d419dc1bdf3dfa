"""A short text that tells two data sets apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

from reid_core.data.archives import stamp
from reid_core.data.array_rows import stored_file
from reid_core.data.companions import companions_of
from reid_core.data.sample import ReIDDataset, Sample

__all__ = ["fingerprint"]


def fingerprint(dataset: ReIDDataset) -> str:
    """Return 16 hexadecimal digits that depend on the data set's files and labels.

    Hashed (SHA-256) are, for each sample in sorted order: split, path below the data set's folder,
    file size, pid, camid, clothes_id, of infrared images the modality and, of each companion that
    the sample has, kind, name and file size. Where the folders lie does not matter (an archive
    counts as the folder that it holds), nor the order of the samples; file contents are represented
    by their size, so it takes seconds, not minutes. Without companions the data set has the digits
    of its images alone.
    """
    lines = sorted(
        f"{split}\t{_name(sample.path, dataset.root)}\t{_size(sample.path)}\t"
        f"{sample.pid}\t{sample.camid}\t{sample.clothes_id}{_modality(sample)}{_companions(sample)}\n"
        for split, samples in dataset.splits.items()
        for sample in samples
    )
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _modality(sample: Sample) -> str:
    """Return nothing for visible images: data sets without infrared ones keep their fingerprint."""
    return "" if sample.modality == "visible" else f"\t{sample.modality}"


def _companions(sample: Sample) -> str:
    """Return the companions; their folders are those of the image, in the tree of their kind."""
    found = companions_of(sample).items()
    return "".join(f"\t{kind}\t{path.name}\t{_size(path)}" for kind, path in found)


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _size(path: Path) -> int:
    """Return the size in bytes; -1 where the file is gone (reading it says what is wrong)."""
    try:
        return stamp(stored_file(path))[0]
    except OSError:
        return -1
