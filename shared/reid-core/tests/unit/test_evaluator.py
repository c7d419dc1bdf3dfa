"""The evaluator: modalities, several features in one pass, mirror images, the authors' draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.config import DataConfig
from reid_core.data.augment import normalize_pixels
from reid_core.data.augment_config import IMAGENET_MEAN, IMAGENET_STD
from reid_core.data.images import decode_resized
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.engine.distributed import World
from reid_core.errors import ProtocolError
from reid_core.evaluation import (
    PROTOCOLS,
    Permutations,
    RerankConfig,
    evaluate_protocol,
    l2_normalize,
)
from reid_core.evaluation.evaluator import Evaluator

HEIGHT, WIDTH = 32, 16
CPU = torch.device("cpu")
INFRARED = (2, 5)  # cameras of SYSU-MM01, from 0
NUM_PIDS, NUM_FILES = 5, 3


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ReIDDataset:
    """People before the six cameras of SYSU-MM01; the last one is not seen indoors."""
    folder = tmp_path_factory.mktemp("SYSU-MM01")
    rng = np.random.default_rng(0)
    samples = []
    for pid in range(1, NUM_PIDS + 1):
        look = rng.integers(60, 196, (8, 4, 3))
        for camera in range(6):
            if pid == NUM_PIDS and camera in (0, 1):
                continue
            for number in range(NUM_FILES):
                path = folder / f"cam{camera + 1}-{pid}-{number}.png"
                pixels = np.clip(look + rng.normal(0, 50, look.shape), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(path)
                modality = "infrared" if camera in INFRARED else "visible"
                samples.append(Sample(path, pid, camera, modality=modality))
    return ReIDDataset(name="sysu", root=folder, splits={"train": samples[:2], "test": samples})


def make_evaluator(dataset, names, **options) -> Evaluator:
    data = DataConfig(
        height=HEIGHT,
        width=WIDTH,
        test_batch_size=7,
        cache="memory",
        flip=options.pop("flip", "sum"),
        interpolation=options.pop("interpolation", "bilinear"),
    )
    protocols = [PROTOCOLS[f"sysu/{name}"] for name in names]
    return Evaluator(dataset, protocols, data, device=CPU, world=World(), **options)


def features_by_hand(network, dataset, index, flip="sum", interpolation="bilinear"):
    """One image at a time, each by its own modality."""
    rows = []
    for sample in dataset.splits["test"]:
        pixels = decode_resized(sample.path, HEIGHT, WIDTH, interpolation)
        image = np.empty((3, HEIGHT, WIDTH), np.float32)
        normalize_pixels(pixels, IMAGENET_MEAN, IMAGENET_STD, out=image)
        one = torch.from_numpy(image)[None]
        flag = torch.tensor([sample.modality == "infrared"])
        with torch.no_grad():
            both = [network.embed_each(x, flag)[:, index] for x in (one, one.flip(3))]
        if flip == "mean":
            both = [l2_normalize(feature) for feature in both]
        rows.append(both[0] if flip == "none" else both[0] + both[1])
    return l2_normalize(torch.cat(rows))


@pytest.mark.parametrize(
    ("flip", "interpolation"), [("sum", "bilinear"), ("mean", "lanczos"), ("none", "bilinear")]
)
def test_every_feature_is_evaluated_by_modality_in_one_pass(networks, dataset, flip, interpolation):
    network = networks.TwoStreams()
    names = ("all_search", "indoor_search")
    evaluator = make_evaluator(dataset, names, flip=flip, interpolation=interpolation)
    found = evaluator(network)
    num_batches = -(-len(dataset.splits["test"]) // 7)
    assert network.num_passes == num_batches * (1 if flip == "none" else 2)
    assert list(found.variants) == ["pool feature"]
    for index, results in enumerate((found.results, found.variants["pool feature"])):
        features = features_by_hand(network, dataset, index, flip, interpolation)
        if index == 0:
            torch.testing.assert_close(found.features["test"], features, rtol=1e-4, atol=1e-5)
        for name, result in zip(names, results, strict=True):
            protocol = PROTOCOLS[f"sysu/{name}"]
            expected = evaluate_protocol(protocol, dataset.splits, {"test": features}).summary()
            assert result.summary()["mAP"] == pytest.approx(expected["mAP"], abs=1e-6)
            assert result.summary()["rank1"] == pytest.approx(expected["rank1"], abs=1e-6)
    both = [
        result.summary()["mAP"] for result in (found.results[0], found.variants["pool feature"][0])
    ]
    assert both[0] != both[1]
    # The last person's queries have no match indoors: counted, and not averaged.
    indoor = found.results[1].summary()
    num_queries = 2 * NUM_FILES * NUM_PIDS
    assert (indoor["num_queries"], indoor["num_valid"]) == (
        num_queries,
        num_queries - 2 * NUM_FILES,
    )
    assert indoor["notes"] == [
        f"{2 * NUM_FILES} of {num_queries} queries have no match in the gallery; they are counted "
        "here, and left out of all means"
    ]
    assert "notes" not in found.results[0].summary()


def test_reranking_and_expansion_go_by_the_headline(networks, dataset):
    evaluator = make_evaluator(dataset, ("all_search",), rerank=RerankConfig(k1=4, k2=2), expand=2)
    found = evaluator(networks.TwoStreams())
    assert list(found.variants) == ["pool feature", "expansion", "re-ranking"]
    only = networks.OneStream()
    assert list(make_evaluator(dataset, ("all_search",))(only).variants) == []


def test_one_feature_of_one_stream_is_evaluated_as_ever(networks, dataset):
    network = networks.OneStream()
    found = make_evaluator(dataset, ("all_search",))(network)
    two = networks.TwoStreams()
    two.weight.data[1] = two.weight[0]
    expected = features_by_hand(two, dataset, 0)
    torch.testing.assert_close(found.features["test"], expected, rtol=1e-4, atol=1e-5)


def test_the_authors_draws_are_used(networks, dataset):
    orders = {}
    rng = np.random.default_rng(3)
    for sample in dataset.splits["test"]:
        if sample.camid not in INFRARED:
            draws = [rng.permutation(NUM_FILES) + 1 for _ in range(10)]
            orders.setdefault((sample.camid, sample.pid), np.stack(draws))
    permutations = Permutations(Path("rand_perm_cam.mat"), orders)
    names = ("all_search_official", "indoor_search_official")
    evaluator = make_evaluator(dataset, names, permutations=permutations)
    found = evaluator(networks.TwoStreams())
    paths = [sample.path.name for sample in dataset.splits["test"]]
    for results in (found.results, found.variants["pool feature"]):
        for trial in (0, 7):
            rows = {row for search in results[0].searches[trial] for row in search.gallery.tolist()}
            drawn = {
                f"cam{camid + 1}-{pid}-{order[trial, 0] - 1}.png"
                for (camid, pid), order in orders.items()
            }
            assert {paths[row] for row in rows} == drawn


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        (None, r"give the file exp/rand_perm_cam.mat"),
        ((9, NUM_FILES), r"holds 9 trials of cam1/0001; trial 10 is wanted"),
        ((10, NUM_FILES + 1), r"lists 4 images of cam1/0001, but there are 3"),
    ],
)
def test_a_table_of_other_draws_is_refused_before_an_image_is_read(dataset, draws, message):
    permutations = None
    if draws is not None:
        orders = np.tile(np.arange(draws[1]) + 1, (draws[0], 1))
        folders = {(sample.camid, sample.pid): orders for sample in dataset.splits["test"]}
        permutations = Permutations(Path("rand_perm_cam.mat"), folders)
    with pytest.raises(ProtocolError, match=message):
        make_evaluator(dataset, ("all_search_official",), permutations=permutations)
