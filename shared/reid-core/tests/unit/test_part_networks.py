"""Networks whose features are made of parts, some of them of companions: from embed to figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.config import DataConfig
from reid_core.data.augment import normalize_pixels
from reid_core.data.augment_config import IMAGENET_MEAN, IMAGENET_STD
from reid_core.data.evaluation_loader import EvaluationBatch
from reid_core.data.images import decode_resized
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.engine.distributed import World
from reid_core.errors import ConfigError, ReIDError
from reid_core.evaluation import (
    PROTOCOLS,
    RerankConfig,
    evaluate_protocol,
    extract_features,
    l2_normalize_parts,
)
from reid_core.evaluation.evaluator import Evaluator
from reid_core.models import FlipEmbedding
from reid_core.models.embedding import (
    choose_feature,
    companion_sizes,
    num_parts,
    part_groups,
    part_network,
)
from reid_core.models.footprint import embedding_footprint, training_footprint

CPU = torch.device("cpu")
HEIGHT, WIDTH = 48, 16
FACE = (32, 24)
PARTS = {"face": 2, "body": 3}
NUM_PIDS = 6
WITHOUT_FACE = {"query": 3, "gallery": 5}
DIM = 4


def draw(count: int, size: tuple[int, int], seed: int) -> torch.Tensor:
    return torch.randn((count, 3, *size), generator=torch.Generator().manual_seed(seed))


def test_what_networks_say_of_their_parts(networks):
    network = networks.InParts()
    assert companion_sizes(network) == {"lr_face": FACE}
    assert (part_groups(network), num_parts(network)) == (PARTS, 5)
    for plain in (networks.OneStream(), None):
        assert (companion_sizes(plain), part_groups(plain), num_parts(plain)) == ({}, {}, 1)


@pytest.mark.parametrize(("name", "columns"), [("face", slice(0, 8)), ("body", slice(8, 20))])
def test_one_group_of_parts_is_a_network_of_its_own(networks, name, columns):
    network = networks.InParts()
    images, faces = draw(3, (HEIGHT, WIDTH), 1), draw(3, FACE, 2)
    chosen = choose_feature(network, name)
    assert part_groups(chosen) == {name: PARTS[name]}
    assert companion_sizes(chosen) == ({"lr_face": FACE} if name == "face" else {})
    others = (faces,) if name == "face" else ()
    assert torch.equal(chosen.embed(images, *others), network.embed(images, faces)[:, columns])
    # The only group of a network is the network.
    assert choose_feature(chosen, name) is part_network(chosen, name) is chosen
    assert choose_feature(network, "") is network
    with pytest.raises(ConfigError, match="no feature 'legs'; its features are face, body"):
        choose_feature(network, "legs")


def unit_parts(features: torch.Tensor) -> torch.Tensor:
    """Scale each part by itself, by a loop."""
    parts = [
        part / part.norm() if part.norm() > 0 else part
        for row in features
        for part in row.split(DIM)
    ]
    return torch.cat(parts).view(features.shape)


@pytest.mark.parametrize("flip", ["sum", "mean", "none"])
def test_mirrored_parts_are_scaled_one_by_one(networks, flip):
    network = networks.InParts()
    images, faces = draw(4, (HEIGHT, WIDTH), 1), draw(4, FACE, 2)
    faces[1] = 0
    pairs = [(images, faces), (images.flip(3), faces.flip(3))]
    plain, mirrored = (network.embed(*pair).detach() for pair in pairs)
    expected = {
        "sum": unit_parts(plain + mirrored),
        "mean": unit_parts(unit_parts(plain) + unit_parts(mirrored)),
        "none": unit_parts(plain),
    }[flip]
    assert expected[1, :8].tolist() == [0] * 8
    found = FlipEmbedding(network, flip)(images, faces).detach()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    # With the last image repeated, as the last batch of a list is.
    batch = EvaluationBatch(images, np.array([2, 0, 1]), None, (faces,))
    features = extract_features(network.embed, [batch], num_images=3, flip=flip)
    torch.testing.assert_close(features[[2, 0, 1]], expected[:3], rtol=1e-5, atol=1e-6)
    # The rule is that of features in parts of any origin.
    if flip == "none":
        columns = network.embed(images, faces).view(4, 5, DIM).transpose(1, 2)
        assert torch.equal(features[[2, 0, 1]], l2_normalize_parts(columns)[:3])


def test_features_need_what_the_network_looks_at(networks):
    network = networks.InParts()
    images, faces = draw(2, (HEIGHT, WIDTH), 1), draw(2, FACE, 2)
    rows = np.arange(2)

    def extract(network, *companions):
        batch = EvaluationBatch(images, rows, None, companions)
        return extract_features(network.embed, [batch], num_images=2)

    with pytest.raises(ReIDError, match=r"looks at lr_face beside the images, and .* hold 0 kinds"):
        extract(network)
    with pytest.raises(ReIDError, match=r"looks at nothing beside the images, and .* hold 1 kinds"):
        extract(choose_feature(network, "body"), faces)
    network.part_groups = {"face": 2, "body": 4}
    with pytest.raises(ReIDError, match="has 6 parts of one size, and returned 20 numbers"):
        extract(network, faces)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ReIDDataset:
    """People whose images and faces are alike; some images have no face, all a mask's path."""
    folder = tmp_path_factory.mktemp("Celeb-reID")
    rng = np.random.default_rng(0)
    splits: dict[str, list[Sample]] = {"train": [], "query": [], "gallery": []}
    looks = rng.integers(60, 196, (NUM_PIDS, 2, 8, 4, 3))
    for split, num_files in (("query", 2), ("gallery", 4)):
        for number in range(NUM_PIDS * num_files):
            pid = number % NUM_PIDS
            files = {}
            for kind, look in zip(("images", "lr_face"), looks[pid], strict=True):
                pixels = np.clip(look + rng.normal(0, 50, look.shape), 0, 255).astype(np.uint8)
                files[kind] = folder / kind / split / f"{number}.png"
                files[kind].parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(files[kind])
            extra = {"mask": folder / "nowhere.png", "hr_face": folder / "nowhere.png"}
            if number >= WITHOUT_FACE[split]:
                extra["lr_face"] = files["lr_face"]
            splits[split].append(Sample(files["images"], pid, 0, extra=extra))
    return ReIDDataset(name="celeb", root=folder, splits=splits)


def make_evaluator(dataset: ReIDDataset, network, **options) -> Evaluator:
    data = DataConfig(
        height=HEIGHT, width=WIDTH, test_batch_size=7, cache="memory", flip="sum", prepared=None
    )
    return Evaluator(
        dataset,
        [PROTOCOLS["celeb/standard"]],
        data,
        device=CPU,
        world=World(),
        companions=companion_sizes(network),
        **options,
    )


def picture(path: Path | None, height: int, width: int) -> torch.Tensor:
    image = np.zeros((3, height, width), np.float32)
    if path is not None:
        pixels = decode_resized(path, height, width)
        normalize_pixels(pixels, IMAGENET_MEAN, IMAGENET_STD, out=image)
    return torch.from_numpy(image)[None]


def features_by_hand(network, samples) -> torch.Tensor:
    """One image at a time."""
    rows = []
    for sample in samples:
        image = picture(sample.path, HEIGHT, WIDTH)
        face = picture(sample.extra.get("lr_face"), *FACE)
        with torch.no_grad():
            both = network.embed(image, face) + network.embed(image.flip(3), face.flip(3))
        rows.append(unit_parts(both))
    return torch.cat(rows)


def figures(protocol, dataset, features) -> tuple[float, ...]:
    result = evaluate_protocol(protocol, dataset.splits, features, means_cosine=False)
    return tuple(result.summary()[name] for name in ("rank1", "rank5", "mAP", "mINP"))


def test_all_parts_and_each_group_are_evaluated(networks, dataset, caplog):
    network = networks.InParts()
    found = make_evaluator(dataset, network)(network)
    protocol = PROTOCOLS["celeb/standard"]
    features = {
        split: features_by_hand(network, dataset.splits[split]) for split in ("query", "gallery")
    }
    for split, values in features.items():
        torch.testing.assert_close(found.features[split], values, rtol=1e-4, atol=1e-5)
    assert list(found.variants) == ["face stream", "body stream"]
    shown = {"": found.results, **found.variants}
    columns = {"": slice(0, 20), "face stream": slice(0, 8), "body stream": slice(8, 20)}
    for variant, (result,) in shown.items():
        own = {split: values[:, columns[variant]] for split, values in features.items()}
        summary = result.summary()
        for name, value in zip(
            ("rank1", "rank5", "mAP", "mINP"), figures(protocol, dataset, own), strict=True
        ):
            assert summary[name] == pytest.approx(value, abs=1e-6), (variant, name)
    scores = {variant: result.summary()["mAP"] for variant, (result,) in shown.items()}
    assert len({*scores.values()}) == 3
    assert not caplog.records  # lengths of rows that lack a part differ, as they should


def test_what_is_missing_is_counted_and_said(networks, dataset):
    network = networks.InParts()
    found = make_evaluator(dataset, network)(network)
    assert found.missing == {"lr_face": WITHOUT_FACE}
    counted = "3 of 12 query images and 5 of 24 gallery images have no face crop; "
    for variant, (result,), expected in (
        ("", found.results, [counted + "they are compared by their other parts"]),
        (
            "face",
            found.variants["face stream"],
            [counted + "their score with every image is 0, and ties count against the match"],
        ),
        ("body", found.variants["body stream"], None),
    ):
        assert result.summary().get("notes") == expected, variant
    texts = [
        result.scoring for result in (*found.results, *(v[0] for v in found.variants.values()))
    ]
    assert texts == [f"sum of the cosines of {count} parts" for count in (5, 2, 3)]


def test_queries_without_a_face_are_ranked_by_their_other_parts(networks, dataset):
    network = networks.InParts()
    found = make_evaluator(dataset, network)(network)
    whole, body = found.results[0].trials[0], found.variants["body stream"][0].trials[0]
    without = slice(0, WITHOUT_FACE["query"])
    np.testing.assert_array_equal(whole.average_precision[without], body.average_precision[without])
    assert (whole.average_precision != body.average_precision).any()


def test_only_what_the_network_looks_at_is_opened(networks, dataset):
    # Masks and restored faces of all samples lead nowhere.
    body = choose_feature(networks.InParts(), "body")
    evaluator = make_evaluator(dataset, networks.InParts())
    alone = make_evaluator(dataset, body)(body)
    assert (alone.variants, alone.missing) == ({}, {})
    assert "notes" not in alone.results[0].summary()
    # An evaluator that has faces serves a network that looks at none.
    beside = evaluator(body)
    assert torch.equal(beside.features["query"], alone.features["query"])
    with pytest.raises(ValueError, match=r"the evaluator has \{\}"):
        make_evaluator(dataset, body)(networks.InParts())


def test_a_data_set_without_any_companion_is_refused(networks, dataset):
    bare = ReIDDataset(
        name="celeb",
        root=dataset.root,
        splits={
            name: [Sample(sample.path, sample.pid, 0) for sample in samples]
            for name, samples in dataset.splits.items()
        },
    )
    message = (
        r"looks at a face crop beside each image \(lr_face\), and none of the 36 test images of "
        r"celeb in .* has one; .* --prepared DIR"
    )
    with pytest.raises(ConfigError, match=message):
        make_evaluator(bare, networks.InParts())


def test_reranking_and_expansion_go_by_all_parts(networks, dataset):
    network = networks.InParts()
    evaluator = make_evaluator(dataset, network, rerank=RerankConfig(k1=4, k2=2), expand=2)
    found = evaluator(network)
    assert list(found.variants) == ["face stream", "body stream", "expansion", "re-ranking"]
    expanded = found.variants["expansion"][0]
    assert expanded.scoring.startswith("sum of the cosines of 5 parts, queries averaged with")
    assert expanded.summary()["notes"] == found.results[0].summary()["notes"]


def test_the_footprint_counts_companions(networks):
    network = networks.InParts()
    shape = (6, 3, HEIGHT, WIDTH)
    num_bytes, dim = embedding_footprint(network, shape)
    assert dim == 20
    faces = 4 * 6 * 3 * FACE[0] * FACE[1]
    alone, alone_dim = embedding_footprint(choose_feature(network, "body"), shape)
    assert alone_dim == 12
    assert num_bytes >= alone + faces


def test_a_training_step_gets_what_forward_has_a_parameter_for(networks):
    class Trained(networks.InParts):
        def forward(self, images, lr_face, hr_face=None):
            assert hr_face is not None
            return self.embed(images, (lr_face + hr_face).exp().exp())

    shape = (6, 3, HEIGHT, WIDTH)
    small, large = (
        training_footprint(
            Trained(), shape, {"lr_face": (n, n), "hr_face": (n, n), "mask": (HEIGHT, WIDTH)}
        )
        for n in (32, 64)
    )
    # What both exponentials leave for the gradient, at least.
    assert large - small >= 2 * 4 * 6 * 3 * (64**2 - 32**2)
