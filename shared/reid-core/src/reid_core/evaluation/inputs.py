"""What features and labels must be like before they are ranked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from reid_core.errors import ProtocolError
from reid_core.evaluation.rules import Labels

__all__ = ["check_feature_pair", "check_features", "check_inputs"]


def check_inputs(
    query_features: Tensor, gallery_features: Tensor, query: Labels, gallery: Labels
) -> None:
    """Refuse features that cannot be ranked, or that do not belong to the labels.

    Args:
        query_features: What should be (Q, D) float32 and finite.
        gallery_features: What should be (G, D) float32 and finite.
        query: Labels of the queries.
        gallery: Labels of the gallery images.

    Raises:
        ProtocolError: As ``check_features``, or D differs.
    """
    check_features(query_features, "query", len(query), query.paths)
    check_features(gallery_features, "gallery", len(gallery), gallery.paths)
    _check_dim(query_features, gallery_features)


def check_feature_pair(query_features: Tensor, gallery_features: Tensor) -> None:
    """Refuse features that cannot be compared, where there are no labels yet.

    Raises:
        ProtocolError: As ``check_inputs``.
    """
    check_features(query_features, "query", len(query_features), ())
    check_features(gallery_features, "gallery", len(gallery_features), ())
    _check_dim(query_features, gallery_features)


def _check_dim(query_features: Tensor, gallery_features: Tensor) -> None:
    if query_features.shape[1] != gallery_features.shape[1]:
        raise ProtocolError(
            f"query features have {query_features.shape[1]} dimensions and gallery features "
            f"{gallery_features.shape[1]}; both must come from the same network"
        )


def check_features(features: Tensor, what: str, num_labels: int, paths: Sequence[Path]) -> None:
    """Refuse features that cannot be ranked.

    Args:
        features: What should be (N, D) float32 and finite.
        what: ``query`` or ``gallery``, for the message.
        num_labels: N according to the labels.
        paths: Image files of the rows, for the message; may be empty.

    Raises:
        ProtocolError: Wrong type or shape, no rows, another number of rows than labels, or rows
            with NaN or infinite values, the first five of which are named.
    """
    if features.dtype != torch.float32:
        raise ProtocolError(f"{what} features are {features.dtype}; convert them to torch.float32")
    if features.ndim != 2 or features.shape[1] == 0:
        shape = tuple(features.shape)
        raise ProtocolError(f"{what} features have shape {shape}; a matrix (images, D) is expected")
    if len(features) != num_labels:
        raise ProtocolError(
            f"{what}: {len(features)} feature rows but labels of {num_labels} images; "
            "both must list the same images in the same order"
        )
    if len(features) == 0:
        raise ProtocolError(f"the {what} is empty: there is nothing to rank")
    suspects = torch.nonzero(~torch.isfinite(torch.linalg.vector_norm(features, dim=1))).flatten()
    # A row whose float32 norm overflows is finite all the same.
    bad = [row for row in suspects.tolist() if not bool(torch.isfinite(features[row]).all())]
    if bad:
        named = [f"{row} ({paths[row]})" if paths else str(row) for row in bad[:5]]
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise ProtocolError(
            f"{what} features hold NaN or infinite values in {len(bad)} of {len(features)} rows: "
            f"{', '.join(named)}{more}. Look at these images and at the network's output."
        )
