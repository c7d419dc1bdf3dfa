"""CCVID: walking sequences instead of images; one video per sample.

Not one of ``READERS``, which return images. Methods for video use ``read_ccvid`` and the two
functions that cut its tracklets into clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from reid_core.data.layout import DatasetInfo, SplitCount
from reid_core.data.locate import describe_folder, locate_dataset
from reid_core.data.readers.listing import list_images
from reid_core.data.sample import relabel
from reid_core.errors import DatasetError

__all__ = ["CCVID", "Tracklet", "VideoDataset", "read_ccvid", "split_test", "split_train"]

CCVID = DatasetInfo(
    name="ccvid",
    title="CCVID",
    folder="CCVID",
    layout=(
        "train.txt  query.txt  gallery.txt  (lines: session3/001_01 <tab> 001 <tab> outfit)\n"
        "session1/001_01/*.jpg ...  session2/  session3/"
    ),
    required=("train.txt", "query.txt", "gallery.txt"),
    probe=(".", r"session[0-9]+$"),
    splits=("train", "query", "gallery"),
    counts={
        "train": SplitCount(75, 948),
        "query": SplitCount(None, 834),
        "gallery": SplitCount(None, 1074),
        "query+gallery": SplitCount(151, 1908),
    },
    source="from its authors, https://github.com/guxinqian/Simple-CCReID",
    paper=(
        "Gu et al., Clothes-Changing Person Re-identification with RGB Modality Only, CVPR 2022"
    ),
)

# Walks of the third session are counted after the twelve views of the others.
_SESSION3_OFFSET = 12


@dataclass(frozen=True, slots=True)
class Tracklet:
    """Frames of one person in one walk, or a clip of them.

    Attributes:
        frames: Image files in order of time.
        pid: Identity; relabelled 0..N-1 in training.
        camid: View, from the walk's number.
        clothes_id: Outfit; one numbering over query and gallery.
    """

    frames: tuple[Path, ...]
    pid: int
    camid: int
    clothes_id: int


@dataclass(frozen=True, kw_only=True)
class VideoDataset:
    """The three splits of CCVID, one entry per walk, in the order of its lists."""

    root: Path
    train: Sequence[Tracklet]
    query: Sequence[Tracklet]
    gallery: Sequence[Tracklet]


class _Row(NamedTuple):
    tracklet: Tracklet
    outfit: str


def read_ccvid(root: str | Path) -> VideoDataset:
    """Read CCVID from its own folder or from the one that contains it.

    Raises:
        DatasetNotFoundError: When it is not there.
        DatasetError: When a list cannot be understood or a walk has no frames.
    """
    folder = locate_dataset(Path(root).expanduser(), CCVID)
    train, query, gallery = (_read_list(folder, split) for split in CCVID.splits)
    pids = relabel(row.tracklet.pid for row in train)
    train = [
        row._replace(tracklet=replace(row.tracklet, pid=pids[row.tracklet.pid])) for row in train
    ]
    test_outfits = relabel(row.outfit for row in [*query, *gallery])
    return VideoDataset(
        root=folder,
        train=_number_outfits(train, relabel(row.outfit for row in train)),
        query=_number_outfits(query, test_outfits),
        gallery=_number_outfits(gallery, test_outfits),
    )


def split_train(tracklets: Iterable[Tracklet], *, length: int = 64) -> list[Tracklet]:
    """Cut videos into pieces of ``length`` frames for training; the last takes the remainder.

    A video shorter than twice ``length`` stays whole.
    """
    pieces = []
    for tracklet in tracklets:
        frames = tracklet.frames
        starts = range(0, max(len(frames) // length, 1) * length, length)
        ends = [*starts[1:], len(frames)]
        pieces += [
            replace(tracklet, frames=frames[start:end])
            for start, end in zip(starts, ends, strict=True)
        ]
    return pieces


def split_test(
    tracklets: Iterable[Tracklet], *, length: int = 16, stride: int = 4
) -> tuple[list[Tracklet], list[range]]:
    """Cut videos into clips of ``length`` frames for testing.

    Each full block of length * stride frames gives ``stride`` interleaved clips; what remains gives
    as many interleaved clips as fit; the last few frames are repeated to fill one clip.

    Returns:
        The clips, and for each video the range of its clips. Averaging the features of a range
        gives the video's feature.
    """
    clips: list[Tracklet] = []
    ranges = []
    for tracklet in tracklets:
        cut = _interleave(tracklet.frames, length, stride)
        ranges.append(range(len(clips), len(clips) + len(cut)))
        clips += [replace(tracklet, frames=frames) for frames in cut]
    return clips, ranges


def _interleave(frames: tuple[Path, ...], length: int, stride: int) -> list[tuple[Path, ...]]:
    clips = []
    start = 0
    while start < len(frames):
        step = min(stride, (len(frames) - start) // length)
        if step == 0:
            rest = frames[start:]
            clips.append(tuple(rest[index % len(rest)] for index in range(length)))
            break
        block = frames[start : start + length * step]
        clips += [block[offset::step] for offset in range(step)]
        start += length * step
    return clips


def _number_outfits(rows: Sequence[_Row], outfits: dict[str, int]) -> list[Tracklet]:
    return [replace(row.tracklet, clothes_id=outfits[row.outfit]) for row in rows]


def _read_list(folder: Path, split: str) -> list[_Row]:
    table = folder / f"{split}.txt"
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise DatasetError(f"cannot read the list {table}: {reason}") from error
    rows = [
        _parse(folder, line, f"{table}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not rows:
        raise DatasetError(f"the list {table} is empty")
    return rows


def _parse(folder: Path, line: str, place: str) -> _Row:
    fields = line.split()
    walk = fields[0].partition("_")[2] if fields else ""
    if len(fields) != 3 or not walk.isdecimal() or not fields[1].isdecimal():
        raise DatasetError(f"{place}: {line!r} is not <session>/<pid>_<walk> <pid> <outfit>")
    where, pid, code = fields
    frames = list_images(folder / where, depth=0)
    if not frames:
        raise DatasetError(f"{place}: no frames in {folder / where}; {describe_folder(folder)}")
    offset = _SESSION3_OFFSET if where.startswith("session3/") else 0
    paths = tuple(folder / where / name for name in frames)
    return _Row(Tracklet(paths, int(pid), int(walk) + offset, -1), f"{pid}_{code}")
