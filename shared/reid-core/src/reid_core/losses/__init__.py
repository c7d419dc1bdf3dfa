"""Losses that several methods share: pure functions of tensors, float32 under autocast."""

from __future__ import annotations

from reid_core.losses.clothes_adversarial import clothes_adversarial
from reid_core.losses.cross_entropy import label_smoothing_cross_entropy
from reid_core.losses.margin_softmax import arcface, circle, cosface
from reid_core.losses.pairs import PairGallery, gather_gallery
from reid_core.losses.pairwise import contrastive, pairwise_circle, pairwise_cosface
from reid_core.losses.triplet import (
    HardestPairs,
    batch_hard_triplet,
    batch_hard_triplet_euclidean,
    hardest_pairs,
)

__all__ = [
    "HardestPairs",
    "PairGallery",
    "arcface",
    "batch_hard_triplet",
    "batch_hard_triplet_euclidean",
    "circle",
    "clothes_adversarial",
    "contrastive",
    "cosface",
    "gather_gallery",
    "hardest_pairs",
    "label_smoothing_cross_entropy",
    "pairwise_circle",
    "pairwise_cosface",
]
