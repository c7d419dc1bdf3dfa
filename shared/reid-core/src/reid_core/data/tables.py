"""Plain-text tables of a data set: splits, cameras, outfits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reid_core.data.layout import CameraLabel, DatasetInfo, SplitCount
from reid_core.data.readers import READERS, count_split
from reid_core.data.readers.counts import select_counted, split_modalities
from reid_core.data.sample import ReIDDataset, Sample

__all__ = ["camera_label", "camera_table", "format_table", "outfit_table", "split_table"]

_CAMERAS_SHOWN = 40
_OUTFITS_SHOWN = 6


def split_table(dataset: ReIDDataset) -> str:
    """Return one row per split: images, identities, outfits, cameras, and the published figures.

    Splits that are published together (such as ``query+gallery``) get a row of their own, and so
    do the modalities of a split that holds both.
    """
    info = _info(dataset)
    published = {} if info is None or dataset.synthetic else info.counts
    keys = [key for split in dataset.splits for key in (split, *_modality_keys(dataset, split))]
    keys += [key for key in published if "+" in key]
    label = camera_label(dataset)
    heading = ["split", "images", "identities", "outfits"]
    heading += ["tracklets" if label == "tracklet" else "cameras"]
    rows = [heading + (["published images", "published identities"] if published else [])]
    for key in keys:
        samples = select_counted(key, dataset.splits)
        if samples is None:
            continue
        found = count_split(samples)
        num_cameras = None if label == "image" else len({sample.camid for sample in samples})
        num_clothes = found.num_clothes if _has_outfits(info, key) else None
        cells = [found.num_images, found.num_pids, num_clothes or None, num_cameras]
        if published:
            count = published.get(key, SplitCount(None, None))
            cells += [count.num_images, count.num_pids]
        rows.append([key, *("-" if cell is None else f"{cell:,}" for cell in cells)])
    return format_table(rows)


def camera_table(dataset: ReIDDataset) -> str:
    """Return the number of images of each camera by split; empty without camera labels."""
    if camera_label(dataset) != "camera":
        return ""
    counts = {
        split: Counter(sample.camid for sample in samples)
        for split, samples in dataset.splits.items()
    }
    cameras = sorted({camid for counter in counts.values() for camid in counter})
    if len(cameras) > _CAMERAS_SHOWN:
        return f"{len(cameras):,} cameras (too many to list)"
    rows = [["images by camid", *map(str, cameras)]]
    rows += [
        [split, *(f"{counter[camid]:,}" if camid in counter else "." for camid in cameras)]
        for split, counter in counts.items()
    ]
    return format_table(rows)


def outfit_table(dataset: ReIDDataset) -> str:
    """Return how many identities have 1, 2, ... outfits by split; empty without outfit labels."""
    info = _info(dataset)
    counts = {
        split: _outfits_by_pid(samples)
        for split, samples in dataset.splits.items()
        if _has_outfits(info, split)
    }
    counts = {split: outfits for split, outfits in counts.items() if outfits}
    if not counts:
        return ""
    most = max(max(outfits) for outfits in counts.values())
    columns = list(range(1, min(most, _OUTFITS_SHOWN) + 1))
    more = most > _OUTFITS_SHOWN
    heading = ["identities by number of outfits", *map(str, columns)]
    rows = [heading + ([f">{_OUTFITS_SHOWN}"] if more else [])]
    for split, outfits in counts.items():
        cells = [outfits[number] for number in columns]
        if more:
            cells.append(sum(outfits.values()) - sum(cells))
        rows.append([split, *(f"{cell:,}" if cell else "." for cell in cells)])
    return format_table(rows)


def camera_label(dataset: ReIDDataset) -> CameraLabel:
    """Tell what ``camid`` holds; ``image`` where no two images share a value."""
    info = _info(dataset)
    if info is not None:
        return info.camera_label
    samples = [sample for split in dataset.splits.values() for sample in split]
    return "image" if len({sample.camid for sample in samples}) == len(samples) else "camera"


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns with two spaces between them: the first to the left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def _info(dataset: ReIDDataset) -> DatasetInfo | None:
    reader = READERS.get(dataset.name)
    return None if reader is None else reader.info


def _modality_keys(dataset: ReIDDataset, split: str) -> list[str]:
    """Return the names of a split's modalities; none where trials would make the table too long."""
    info = _info(dataset)
    if info is not None and info.num_trials > 1:
        return []
    return list(split_modalities(split, dataset.splits[split]))


def _has_outfits(info: DatasetInfo | None, split: str) -> bool:
    labelled = "all" if info is None else info.clothes_label
    return labelled == "all" or (labelled == "train" and split == "train")


def _outfits_by_pid(samples: Sequence[Sample]) -> Counter[int]:
    worn: dict[int, set[int]] = {}
    for sample in samples:
        if sample.clothes_id >= 0:
            worn.setdefault(sample.pid, set()).add(sample.clothes_id)
    return Counter(len(outfits) for outfits in worn.values())
