"""Features of any images: files, folders or tables in, one array out."""

from __future__ import annotations

import csv
import importlib.util
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from reid_core.commands.arguments import EmbedArguments
from reid_core.commands.budget import add_embedding, open_plan
from reid_core.commands.companion_files import find_companions, stream_companions
from reid_core.commands.console import say
from reid_core.commands.modalities import infrared_flags, label_modality
from reid_core.commands.network import LoadedNetwork
from reid_core.commands.progress import progress_bar
from reid_core.config import DataConfig
from reid_core.data.companions import COMPANION_KINDS, COMPANION_NAMES
from reid_core.data.evaluation_loader import evaluation_batches
from reid_core.data.readers.listing import IMAGE_SUFFIXES
from reid_core.data.stream import ImageStream
from reid_core.engine.device import choose_device
from reid_core.engine.distributed import World
from reid_core.errors import ConfigError, DatasetError
from reid_core.evaluation.features import extract_features
from reid_core.files import atomic_file, make_parent
from reid_core.models.embedding import companion_sizes, is_cross_modal, num_parts, part_groups

__all__ = ["ImageList", "collect_images", "embed_images", "run_embed", "write_features"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

# Columns of a table that are copied beside the features, as evaluation needs them.
_LABELS = ("pid", "camid", "clothes_id", "modality", "split")


@dataclass(frozen=True, eq=False)
class ImageList:
    """Images to embed.

    Attributes:
        paths: The files.
        labels: Column to one text per file; empty where no table was given.
        companions: Kind of companion to one file per image, None where a table names none; kinds
            that no table has a column for are absent.
    """

    paths: list[Path]
    labels: dict[str, list[str]]
    companions: dict[str, list[Path | None]] = field(default_factory=dict)


def collect_images(sources: Sequence[Path]) -> ImageList:
    """Find the images that the arguments of ``<method>-embed`` mean.

    Args:
        sources: Image files; folders, searched through in sorted order; CSV tables with a column
            ``path`` (relative to the table's folder) and perhaps labels, and companions in columns
            of the names of their kinds.

    Raises:
        DatasetError: When a source does not exist, holds no image, or a table has no ``path``.
    """
    paths: list[Path] = []
    rows: list[dict[str, str]] = []
    folders: list[Path] = []
    for source in sources:
        if source.suffix.lower() == ".csv":
            table = list(_read_table(source))
            paths += [source.parent / row["path"] for row in table]
            rows += table
        else:
            found = _image_files(source)
            paths += found
            rows += [{} for _ in found]
        folders += [source.parent] * (len(rows) - len(folders))
    present = [name for name in _LABELS if any(row.get(name) for row in rows)]
    companions: dict[str, list[Path | None]] = {
        kind: [
            folder / row[kind] if row.get(kind) else None
            for folder, row in zip(folders, rows, strict=True)
        ]
        for kind in COMPANION_KINDS
        if any(kind in row for row in rows)
    }
    labels = {name: [row.get(name) or "" for row in rows] for name in present}
    return ImageList(paths, labels, companions)


def embed_images(
    loaded: LoadedNetwork, images: ImageList, arguments: EmbedArguments, progress: Progress | None
) -> dict[str, Any]:
    """Return the arrays that ``write_features`` writes.

    Features are those of the method's evaluation: with or without the mirror image, length 1. Those
    in parts are written with a dimension for the parts, each of length 1 or, where an image lacks
    what a part is made from, zero; scaling them as a whole would change the ranking.

    Args:
        loaded: The network, with the feature and the use of mirror images that are wanted.
        images: What to embed, with all companions that the network looks at.
        arguments: Batch size, device, what to do with damaged files.
        progress: Called with (images done, images in all).

    Returns:
        ``features`` (N, D) float32, or (N, D, P) where they have P parts of D numbers each,
        ``path`` (N,) text, and one array per label column (integers where all its values are).

    Raises:
        ConfigError: When the network has to know the modality of images, and some have none.
        ImageFileError: When an image is damaged (without ``skip_corrupt``).
    """
    device = choose_device(arguments.device)
    infrared = None
    if is_cross_modal(loaded.network):
        infrared = infrared_flags(images.paths, images.labels.get("modality", ()))
    stream = ImageStream(
        images.paths,
        height=loaded.height,
        width=loaded.width,
        interpolation=loaded.interpolation,
        skip_corrupt=arguments.skip_corrupt,
    )
    companions = stream_companions(loaded, images.companions, skip_corrupt=arguments.skip_corrupt)
    batches = evaluation_batches(
        stream,
        batch_size=arguments.batch_size,
        device=device,
        infrared=infrared,
        companions=companions.images,
        mean=loaded.mean,
        std=loaded.std,
    )
    network = loaded.network.to(device)
    kept: list[int] = []

    def noted() -> Iterator[Any]:
        for batch in batches:
            kept.extend(batch.indices.tolist())
            yield batch

    features = extract_features(
        network.embed,  # type: ignore[arg-type]
        noted(),
        num_images=len(images.paths),
        flip=loaded.flip,
        progress=progress,
    )
    companions.warn_of_damaged()
    values = features.numpy()
    if part_groups(network):
        values = values.reshape(len(values), num_parts(network), -1).swapaxes(1, 2)
    is_complete = len(kept) == len(images.paths)
    arrays: dict[str, Any] = {
        "features": values if is_complete else values[kept],
        "path": np.array([images.paths[i].as_posix() for i in kept]),
    }
    for name, texts in images.labels.items():
        arrays[name] = _column([texts[i] for i in kept])
    return arrays


def run_embed(loaded: LoadedNetwork, arguments: EmbedArguments) -> None:
    """Do what ``<method>-embed`` was asked for, and say what was written.

    Raises:
        ReIDError: When images or the output cannot be used, or it would need more memory than it
            may have; found before the work starts.
    """
    if arguments.out.suffix == ".parquet":
        _require_pyarrow()
    loaded = loaded.choose(feature=arguments.feature, flip=arguments.flip)
    images = collect_images(arguments.paths)
    if arguments.modality is not None:
        count = len(images.paths)
        labels = label_modality(images.labels.get("modality", ()), count, arguments.modality)
        images = replace(images, labels={**images.labels, "modality": labels})
    if arguments.prepared is not None and not companion_sizes(loaded.network):
        logger.warning("--prepared has no effect: the network looks at the images alone")
    companions = find_companions(loaded, images.paths, images.companions, arguments)
    images = replace(images, companions=companions)
    _require_memory(loaded, images, arguments)
    make_parent(arguments.out)
    with progress_bar("embedding") as progress:
        arrays = embed_images(loaded, images, arguments, progress)
    write_features(arguments.out, arrays)
    count, *shape = arrays["features"].shape
    skipped = len(images.paths) - count
    note = f", {skipped:,} damaged images left out" if skipped else ""
    for kind, files in companions.items():
        missing = files.count(None)
        note += f", {missing:,} of the images without a {COMPANION_NAMES[kind]}" if missing else ""
    size = " x ".join(f"{length:,}" for length in shape)
    parts = "" if len(shape) == 1 else " (the last: parts, each scaled by itself)"
    say(f"wrote {arguments.out}: {count:,} features of {size} numbers{parts}{note}")


def write_features(path: Path, arrays: dict[str, Any]) -> None:
    """Write the arrays as .npz or .parquet.

    A parquet file has one row per image, and features as a column of lists; of features in parts
    of lists of lists, as the array has its dimensions.

    Raises:
        ConfigError: When parquet is asked for and pyarrow is not installed.
        OutputError: When the file cannot be written.
    """
    if path.suffix == ".npz":
        with atomic_file(path) as file:
            np.savez(file, **arrays)
        return
    _require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = arrays["features"]
    rows = pa.array(features.reshape(-1))
    for length in reversed(features.shape[1:]):
        rows = pa.FixedSizeListArray.from_arrays(rows, length)
    columns = {name: pa.array(value) for name, value in arrays.items() if name != "features"}
    with atomic_file(path) as file:
        pq.write_table(pa.table({**columns, "features": rows}), file)


def _require_memory(loaded: LoadedNetwork, images: ImageList, arguments: EmbedArguments) -> None:
    """Refuse an embedding that needs more memory than it may have."""
    device = choose_device(arguments.device)
    plan = open_plan("embedding", arguments.memory_limit, device, World())
    data = DataConfig(
        height=loaded.height, width=loaded.width, test_batch_size=arguments.batch_size
    )
    dim = add_embedding(plan, loaded.network, data, device)
    count = len(images.paths)
    # Once more without the images left out, or in the columns of a parquet table and its buffers.
    copies = 1 + int(arguments.skip_corrupt) + 2 * (arguments.out.suffix == ".parquet")
    plan.add(f"features ({count:,} x {dim:,})", 4 * count * dim * copies, remedy="fewer images")
    longest = max((len(path.as_posix()) for path in images.paths), default=0)
    plan.add("their paths", 4 * count * longest)
    plan.require("embedding")


def _require_pyarrow() -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(
            'writing .parquet needs pyarrow; pip install "reid-core[parquet]", or write .npz'
        )


def _read_table(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or ()]
            if "path" not in header:
                raise DatasetError(
                    f"{path}: no column 'path'; its first line is {','.join(header)!r}"
                )
            reader.fieldnames = header
            for number, row in enumerate(reader, 2):
                if not (row["path"] or "").strip():
                    raise DatasetError(f"{path}, line {number}: the column 'path' is empty")
                known = ("path", *_LABELS, *(kind for kind in COMPANION_KINDS if kind in header))
                yield {name: (row.get(name) or "").strip() for name in known}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not a comma-separated UTF-8 table: {error}") from error
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error


def _image_files(source: Path) -> list[Path]:
    if source.is_dir():
        found = sorted(
            path
            for path in source.rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        )
        if not found:
            raise DatasetError(
                f"{source} holds no image files ({', '.join(sorted(IMAGE_SUFFIXES))})"
            )
        return found
    if not source.exists():
        raise DatasetError(f"{source} does not exist; name image files, folders or CSV tables")
    return [source]


def _column(values: Sequence[str]) -> Any:
    try:
        return np.array([int(value) for value in values], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array(values)
