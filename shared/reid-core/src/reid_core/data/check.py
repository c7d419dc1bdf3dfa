"""The data doctor: is a data set complete, readable, and fit for evaluation?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from reid_core.data.companions import COMPANION_KINDS, companions_of
from reid_core.data.fingerprint import fingerprint
from reid_core.data.naming import dataset_title
from reid_core.data.prefetch import available_cpus
from reid_core.data.readers import CountDifference, Reading, read_dataset
from reid_core.data.readers.counts import split_modalities
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.data.tables import camera_table, outfit_table, split_table
from reid_core.errors import DatasetError, ImageFileError

__all__ = ["MAX_THREADS", "CheckReport", "Problem", "check_dataset", "format_stats"]

MAX_THREADS = 8
"""Images that are decoded at one time, at most."""

_ITEMS_SHOWN = 100
_CHUNK = 1024


@dataclass(frozen=True)
class Problem:
    """Something to mend before results can be trusted.

    Attributes:
        what: What is wrong, in one line.
        items: The files or figures concerned, one line each.
        fix: What to do about it.
    """

    what: str
    items: tuple[str, ...]
    fix: str


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What the doctor found.

    Attributes:
        dataset: The data set, misnamed files left out.
        problems: What should be mended; none means healthy.
        remarks: What is worth knowing and may well be as it should.
        num_decoded: Images that were decoded without an error.
    """

    dataset: ReIDDataset
    problems: tuple[Problem, ...]
    remarks: tuple[str, ...]
    num_decoded: int

    @property
    def healthy(self) -> bool:
        """True where nothing has to be mended."""
        return not self.problems

    def format(self) -> str:
        """Return the report as text."""
        blocks = [format_stats(self.dataset)]
        blocks += filter(None, [camera_table(self.dataset), outfit_table(self.dataset)])
        if self.remarks:
            blocks.append("\n".join(f"note: {remark}" for remark in self.remarks))
        blocks += [_format_problem(problem) for problem in self.problems]
        count = len(self.problems)
        verdict = "healthy" if self.healthy else f"{count} problem{'s' if count > 1 else ''}"
        blocks.append(f"{self.num_decoded:,} images decoded without error; {verdict}")
        return "\n\n".join(blocks)


def check_dataset(
    name: str, root: str | Path, *, progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Read a data set, decode every image, and compare it with what is published.

    Companion images that the data set comes with are decoded, too.

    Args:
        name: One of ``reid_core.data.DATASET_NAMES``.
        root: As for ``load_dataset``.
        progress: Called with (images done, images in all).

    Raises:
        ReIDError: When the data set cannot be read at all (as ``load_dataset``). Misnamed and
            damaged images are problems of the report instead, all of them named.
    """
    reading = read_dataset(name, root)
    dataset = reading.dataset
    samples = [sample for split in dataset.splits.values() for sample in split]
    paths = sorted(
        {path for sample in samples for path in (sample.path, *companions_of(sample).values())}
    )
    unreadable = list(_unreadable(paths, progress))
    problems = [*_naming(reading), *_damage(unreadable), *_counts(reading), *_unanswerable(dataset)]
    wrong = {item.sentence for item in _wrong_counts(reading)}
    remarks = [
        *_unmatched(dataset),
        *_companions(dataset),
        *(note for note in dataset.notes if note not in wrong),
    ]
    return CheckReport(
        dataset=dataset,
        problems=tuple(problems),
        remarks=tuple(remarks),
        num_decoded=len(paths) - len(unreadable),
    )


def format_stats(dataset: ReIDDataset) -> str:
    """Return the title, place, fingerprint and split table of a data set as text."""
    kind = " (synthetic images)" if dataset.synthetic else ""
    try:
        digest = fingerprint(dataset)
    except DatasetError:
        digest = "none, files are missing"
    lines = [
        f"{dataset_title(dataset.name)}{kind}",
        f"folder       {dataset.root}",
        f"fingerprint  {digest}",
        "",
    ]
    return "\n".join([*lines, split_table(dataset)])


def _unreadable(
    paths: Sequence[Path], progress: Callable[[int, int], None] | None
) -> Iterator[str]:
    """Decode all images in threads (Pillow releases the lock) and yield what went wrong."""
    done = 0
    with ThreadPoolExecutor(min(MAX_THREADS, available_cpus())) as pool:
        for start in range(0, len(paths), _CHUNK):
            for fault in pool.map(_fault, paths[start : start + _CHUNK]):
                done += 1
                if progress is not None:
                    progress(done, len(paths))
                if fault is not None:
                    yield fault


def _fault(path: Path) -> str | None:
    from reid_core.data.images import read_image

    try:
        read_image(path)
    except ImageFileError as error:
        return str(error)
    return None


def _naming(reading: Reading) -> Iterator[Problem]:
    if reading.misnamed:
        root = reading.dataset.root
        yield Problem(
            f"misnamed image files, whose names carry no labels: {len(reading.misnamed):,}",
            tuple(path.relative_to(root).as_posix() for path in reading.misnamed),
            "rename them, or move them out of the data set's folder",
        )


def _damage(unreadable: Sequence[str]) -> Iterator[Problem]:
    if unreadable:
        yield Problem(
            f"images that cannot be read: {len(unreadable):,}",
            tuple(unreadable),
            "copy or extract these files again; training stops at them unless it is told to "
            "leave them out with --data.skip-corrupt",
        )


def _counts(reading: Reading) -> Iterator[Problem]:
    wrong = _wrong_counts(reading)
    if wrong:
        yield Problem(
            "the data set is not as it was published",
            tuple(item.sentence for item in wrong),
            "extract the archives again; results on other splits cannot be compared with "
            "published ones",
        )


def _wrong_counts(reading: Reading) -> list[CountDifference]:
    # Validation splits may be absent, and published outfit counts do not agree with each other.
    return [item for item in reading.differences if item.found and item.what != "outfits"]


def _unanswerable(dataset: ReIDDataset) -> Iterator[Problem]:
    for split, queries, gallery in _query_gallery(dataset):
        if _num_unmatched(queries, gallery) == len(queries):
            yield Problem(
                f"no image of {split} has a gallery image of the same person by another camera",
                (),
                "compare the identities of both splits, and their cameras: where all images have "
                "the same camera, leave the camera out",
            )


def _unmatched(dataset: ReIDDataset) -> Iterator[str]:
    for split, queries, gallery in _query_gallery(dataset):
        count = _num_unmatched(queries, gallery)
        if 0 < count < len(queries):
            yield (
                f"{split}: {count:,} of {len(queries):,} queries have no gallery image of the same "
                "person by another camera; the protocols leave them out"
            )


def _companions(dataset: ReIDDataset) -> Iterator[str]:
    """Count the companion images of each split, where the data set comes with any."""
    counts = {
        split: {kind: sum(kind in sample.extra for sample in samples) for kind in COMPANION_KINDS}
        for split, samples in dataset.splits.items()
    }
    if any(count for found in counts.values() for count in found.values()):
        for split, found in counts.items():
            listed = ", ".join(f"{kind} {count:,}" for kind, count in found.items())
            yield f"{split}: companions of {len(dataset.splits[split]):,} images: {listed}"


def _query_gallery(
    dataset: ReIDDataset,
) -> Iterator[tuple[str, Sequence[Sample], Sequence[Sample]]]:
    for split, queries in dataset.splits.items():
        if "query" in split:
            gallery = dataset.splits.get("val_gallery" if split.startswith("val") else "gallery")
            if gallery is not None:
                yield split, queries, gallery
        elif split.startswith("test"):
            # Splits of both modalities are searched across them, in either direction.
            parts = split_modalities(split, queries)
            for name, searched in zip(parts, reversed(parts.values()), strict=True):
                yield name, parts[name], searched


def _num_unmatched(queries: Sequence[Sample], gallery: Sequence[Sample]) -> int:
    cameras: dict[int, set[int]] = {}
    for sample in gallery:
        cameras.setdefault(sample.pid, set()).add(sample.camid)
    return sum(not cameras.get(query.pid, set()) - {query.camid} for query in queries)


def _format_problem(problem: Problem) -> str:
    lines = [f"PROBLEM: {problem.what}"]
    lines += [f"  {item}" for item in problem.items[:_ITEMS_SHOWN]]
    if len(problem.items) > _ITEMS_SHOWN:
        lines.append(f"  ... and {len(problem.items) - _ITEMS_SHOWN:,} more")
    lines.append(f"  fix: {problem.fix}")
    return "\n".join(lines)
