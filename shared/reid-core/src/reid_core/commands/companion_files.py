"""Which companion pictures the images have that ``<method>-embed`` is given."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from reid_core.commands.arguments import EmbedArguments
from reid_core.commands.network import LoadedNetwork
from reid_core.data.companion_images import SparseImages
from reid_core.data.companions import (
    COMPANION_NAMES,
    CompanionKind,
    companion_path,
    pair_samples,
)
from reid_core.data.sample import Sample
from reid_core.data.stream import ImageStream
from reid_core.errors import ConfigError, DatasetNotFoundError
from reid_core.models.embedding import companion_sizes, part_groups, part_network

__all__ = ["CompanionStreams", "find_companions", "stream_companions"]

logger = logging.getLogger(__name__)


def find_companions(
    loaded: LoadedNetwork,
    images: Sequence[Path],
    named: Mapping[str, Sequence[Path | None]],
    arguments: EmbedArguments,
) -> dict[str, list[Path | None]]:
    """Return the companions that a network looks at beside each image, by kind.

    A column of a table names them; for images without a name there, the prepared folder is looked
    through (``_in_folder``). An image without either has none.

    Args:
        loaded: The network.
        images: The N images.
        named: Kind to what a table names for each of the N images, None where it names nothing;
            kinds without any such column are absent.
        arguments: The prepared folder, if there is one.

    Raises:
        ConfigError: Nothing says where the companions are, or the folder has none of them.
        DatasetNotFoundError: There is no such folder.
    """
    found: dict[str, list[Path | None]] = {}
    for kind in companion_sizes(loaded.network):
        paths = [*named.get(kind, [None] * len(images))]
        if arguments.prepared is not None:
            folder = arguments.prepared.expanduser()
            others = _in_folder(images, folder, cast("CompanionKind", kind))
            paths = [own or other for own, other in zip(paths, others, strict=True)]
        elif kind not in named:
            raise ConfigError(_nothing_given(loaded, kind))
        found[kind] = paths
    return found


@dataclass(frozen=True, eq=False)
class CompanionStreams:
    """Companions that are read when they are needed.

    Attributes:
        images: One source per kind that the network looks at, in its order.
        streams: The files behind them.
    """

    images: tuple[SparseImages, ...]
    streams: tuple[ImageStream, ...]

    def warn_of_damaged(self) -> None:
        """Name what could not be read so far, and was taken for missing."""
        for stream in self.streams:
            if stream.skipped:
                shown = "; ".join(list(stream.skipped.values())[:3])
                logger.warning(
                    "damaged companions taken for missing: %d (%s)", len(stream.skipped), shown
                )


def stream_companions(
    loaded: LoadedNetwork, companions: Mapping[str, Sequence[Path | None]], *, skip_corrupt: bool
) -> CompanionStreams:
    """Open companions for reading when they are needed.

    Args:
        loaded: The network.
        companions: From ``find_companions``.
        skip_corrupt: Take damaged ones for missing ones.
    """
    images, streams = [], []
    for kind, (height, width) in companion_sizes(loaded.network).items():
        paths = companions[kind]
        positions = np.array([i for i, path in enumerate(paths) if path is not None], np.int64)
        stream = ImageStream(
            [path for path in paths if path is not None],
            height=height,
            width=width,
            interpolation=loaded.interpolation,
            skip_corrupt=skip_corrupt,
        )
        streams.append(stream)
        images.append(SparseImages(stream, positions, len(paths), height=height, width=width))
    return CompanionStreams(tuple(images), tuple(streams))


def _in_folder(images: Sequence[Path], folder: Path, kind: CompanionKind) -> list[Path | None]:
    """Return the companions that a prepared folder holds.

    They are found by the path below the folder of the data set, which is not named here: it is the
    nearest one above all images that gives any of them a companion; or, where none has one, whose
    folders of images the prepared folder has, too.

    Raises:
        ConfigError: No folder does.
        DatasetNotFoundError: There is no prepared folder.
    """
    if not folder.is_dir():
        raise DatasetNotFoundError(
            f"there is no prepared folder {folder}; name the one that deskpro-prepare wrote"
        )
    # Not resolved: links lead out of the data set's folder.
    samples = [Sample(path.absolute(), 0, 0) for path in images]
    nearest = Path(os.path.commonpath([sample.path.parent for sample in samples]))
    roots = (nearest, *nearest.parents)
    for root in roots:
        found = [own.extra.get(kind) for own in pair_samples(samples, root, folder, (kind,))]
        if any(found):
            return found
    if any((folder / kind / nearest.relative_to(root)).is_dir() for root in roots[1:]):
        return [None] * len(images)
    tried = [companion_path(root, samples[0].path, kind, folder) for root in nearest.parents[:2]]
    raise ConfigError(
        f"the prepared folder {folder} holds no {COMPANION_NAMES[kind]} of any of the "
        f"{len(images):,} images (looked for {', '.join(map(str, tried))} and so on); name the "
        "folder that was made of these images, or give a table with the columns path and "
        f"{kind}"
    )


def _nothing_given(loaded: LoadedNetwork, kind: str) -> str:
    network, what = loaded.network, COMPANION_NAMES[kind]
    without = [
        group
        for group in part_groups(network)
        if kind not in companion_sizes(part_network(network, group))
    ]
    hint = f"; or embed without it, by --feature {without[0]}" if without else ""
    return (
        f"the network looks at a {what} beside each image; name the folder that deskpro-prepare "
        f"made with --prepared DIR, or give a CSV table with the columns path and {kind} (empty "
        f"for an image that has none){hint}"
    )
