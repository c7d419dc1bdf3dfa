"""The doctor of prepared folders: is everything there, readable, and what it should be?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from reid_core.data.companions import companions_of
from reid_core.data.images import read_image
from reid_core.data.sample import ReIDDataset
from reid_core.errors import ImageFileError
from reid_core.processes import choose_workers, map_in_processes
from reid_deskpro.prepare.census import Census, take_census
from reid_deskpro.prepare.pictures import Pixels, image_size

__all__ = ["CheckReport", "check_companions"]

_CHUNK = 32
_SHOWN = 5

_DAMAGED = "damaged files"
_COLOURED = "masks in colours, as of a parser's pictures, where black and white is expected"
_OTHER_SIZE = "masks of another size than their image"
_DARK = "masks that are dark throughout, such as of 0 and 1, where 0 and 255 are expected"
_EMPTY = "masks without a single white pixel"
_FULL = "masks without a single black pixel"
_GREY = (
    "masks with grey values; most come from JPEG, in which few zeros stay exact (see the README)"
)

# What keeps a folder from being used; the rest may be as it should.
_PROBLEMS = (_DAMAGED, _COLOURED, _OTHER_SIZE, _DARK)

_BRIGHT = 128  # from which a pixel is meant to be white


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What the doctor found.

    Attributes:
        census: What is there.
        problems: What has to be mended, by the files concerned; with the first few of them.
        remarks: What is worth knowing, likewise, and may be as it should.
        notes: What differs from the published splits.
        num_checked: Files that were decoded.
    """

    census: Census
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    notes: tuple[str, ...]
    num_checked: int

    @property
    def healthy(self) -> bool:
        """True where nothing has to be mended."""
        return not self.problems

    def format(self) -> str:
        """Return the report as text."""
        lines = [self.census.format(), ""]
        lines += [f"note: {note}" for note in (*self.notes, *self.remarks)]
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        verdict = "healthy" if self.healthy else f"problems: {len(self.problems)}"
        return "\n".join([*lines, f"{self.num_checked:,} masks and faces decoded; {verdict}"])


def check_companions(
    dataset: ReIDDataset,
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Decode all masks and faces of a data set and look for what cannot be right.

    Args:
        dataset: A data set with its companions attached.
        workers: Processes; 0 takes what suits the machine.
        progress: Called with (files done, files in all).
    """
    files = sorted(
        {
            (path, kind == "mask", sample.path)
            for samples in dataset.splits.values()
            for sample in samples
            for kind, path in companions_of(sample).items()
        }
    )
    found: dict[str, list[str]] = {}
    results = map_in_processes(
        _examine, files, num_workers=workers or choose_workers(len(files)), chunk_size=_CHUNK
    )
    for count, ((path, _, _), faults) in enumerate(zip(files, results, strict=True), start=1):
        for fault in faults:
            found.setdefault(fault, []).append(str(path))
        if progress is not None:
            progress(count, len(files))
    census = take_census(dataset)
    problems = [_describe(fault, found[fault]) for fault in _PROBLEMS if fault in found]
    problems += _absent(census)
    return CheckReport(
        census=census,
        problems=tuple(problems),
        remarks=tuple(
            _describe(fault, paths) for fault, paths in found.items() if fault not in _PROBLEMS
        ),
        notes=dataset.notes,
        num_checked=len(files),
    )


def _examine(files: Sequence[tuple[Path, bool, Path]]) -> list[tuple[str, ...]]:
    return [_faults(*file) for file in files]


def _faults(path: Path, is_mask: bool, image: Path) -> tuple[str, ...]:
    """Return what is wrong with a companion."""
    try:
        if not is_mask:
            read_image(path)
            return ()
        pixels = np.asarray(read_image(path))
        size = image_size(image)
    except ImageFileError:
        return (_DAMAGED,)
    values = np.unique(pixels[:, :, 0])
    tests: Iterable[tuple[str, Callable[[], bool]]] = (
        (_COLOURED, lambda: bool((pixels != pixels[:, :, :1]).any())),
        (_OTHER_SIZE, lambda: pixels.shape[1::-1] != size),
        (_DARK, lambda: 0 < int(values.max()) < _BRIGHT),
        (_EMPTY, partial(_is_only, values, 0)),
        (_FULL, partial(_is_only, values, 255)),
        (_GREY, lambda: int(values.max()) >= _BRIGHT and bool(set(values.tolist()) - {0, 255})),
    )
    return tuple(fault for fault, applies in tests if applies())


def _is_only(values: Pixels, value: int) -> bool:
    return bool((values == value).all())


def _absent(census: Census) -> list[str]:
    """Return what training cannot do without and is not there at all."""
    problems = []
    for split in census.lost:
        figures = census.splits[split]
        kinds = [kind for kind, count in figures.having.items() if not count]
        if kinds:
            problems.append(
                f"{split}: no image has a {' or a '.join(kinds)}; nothing can be trained"
            )
        elif not figures.complete:
            problems.append(f"{split}: no image has a mask and both faces; nothing can be trained")
    return problems


def _describe(fault: str, paths: Sequence[str]) -> str:
    shown = "".join(f"\n  {path}" for path in paths[:_SHOWN])
    more = f"\n  ... and {len(paths) - _SHOWN:,} more" if len(paths) > _SHOWN else ""
    return f"{fault}: {len(paths):,}{shown}{more}"
