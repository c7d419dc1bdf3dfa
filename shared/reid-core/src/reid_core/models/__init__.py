"""Backbones, poolings, necks and classifiers; plain modules with keyword arguments."""

from __future__ import annotations

from reid_core.models.classifiers import Classifier, CosineClassifier
from reid_core.models.embedding import CrossModalEmbedder, Embedder, FlipEmbedding
from reid_core.models.loading import load_state
from reid_core.models.necks import BNNeck
from reid_core.models.pooling import (
    GeM,
    GlobalAvgPool,
    GlobalMaxAvgPool,
    GlobalMaxPool,
    GlobalPool,
    PoolingName,
    build_pooling,
    pool_stripes,
)
from reid_core.models.resnet import BackboneName, ResNet, ResNetTrunk, detect_backbone

__all__ = [
    "BNNeck",
    "BackboneName",
    "Classifier",
    "CosineClassifier",
    "CrossModalEmbedder",
    "Embedder",
    "FlipEmbedding",
    "GeM",
    "GlobalAvgPool",
    "GlobalMaxAvgPool",
    "GlobalMaxPool",
    "GlobalPool",
    "PoolingName",
    "ResNet",
    "ResNetTrunk",
    "build_pooling",
    "detect_backbone",
    "load_state",
    "pool_stripes",
]
