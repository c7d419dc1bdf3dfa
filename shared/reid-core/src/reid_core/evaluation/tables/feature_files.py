"""Which files of features there are: one, or one of queries and one of gallery images.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reid_core.errors import FeatureFileError
from reid_core.evaluation.tables.feature_readers import read_feature_tables
from reid_core.evaluation.tables.feature_table import FeatureTable

__all__ = ["read_feature_files"]


def read_feature_files(paths: Sequence[Path], labels: Sequence[Path] = ()) -> list[FeatureTable]:
    """Read one file of features, or a file of queries and a file of gallery images.

    Args:
        paths: One or two files, see ``read_feature_tables``.
        labels: Tables of labels, one per file, or none.

    Returns:
        The tables; where there are two, ``role`` says which is which.

    Raises:
        FeatureFileError: Files cannot be read, or their numbers are wrong.
    """
    if not 1 <= len(paths) <= 2:
        raise FeatureFileError(
            f"{len(paths)} files of features; give one, or two: that of the queries and that of "
            "the gallery"
        )
    if labels and len(labels) != len(paths):
        raise FeatureFileError(
            f"{len(paths)} files of features but {len(labels)} tables of labels; --labels takes "
            "one per file, in the same order"
        )
    found = [
        read_feature_tables(path, table)
        for path, table in zip(paths, labels or (None,) * len(paths), strict=True)
    ]
    if len(found) == 1:
        return found[0]
    for path, tables in zip(paths, found, strict=True):
        if len(tables) > 1:
            raise FeatureFileError(f"{path} holds queries and gallery already; give it alone")
    (query,), (gallery,) = found
    if query.role == "gallery" or gallery.role == "query":
        raise FeatureFileError(
            f"by the names of its arrays {query.source} holds the {query.role or 'query'} and "
            f"{gallery.source} the {gallery.role or 'gallery'}; give the queries first"
        )
    return [replace(query, role="query"), replace(gallery, role="gallery")]
