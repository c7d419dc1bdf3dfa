"""Protocols: the table, names, what labels allow, draws, and results over trials."""

from __future__ import annotations

import json
import logging
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_core.data import DATASET_NAMES, READERS
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.errors import ProtocolError
from reid_core.evaluation import (
    MATCH_RULES,
    PROTOCOLS,
    Labels,
    Ranking,
    applicable,
    choose_protocols,
    evaluate_protocol,
    gallery_draws,
    get_protocol,
    l2_normalize,
    protocols_for,
    rank_gallery,
    single_shot_draws,
    splits_of,
)


def images(*labels):
    """Samples from (pid, camid, clothes_id)."""
    return [Sample(Path(f"{i}.jpg"), *label) for i, label in enumerate(labels)]


def dataset(name="ltcc", **splits):
    return ReIDDataset(name=name, root=Path("data"), splits=splits)


QUERY = images((1, 0, 0), (2, 0, 2))
GALLERY = images((1, 1, 0), (1, 1, 1), (2, 1, 2), (3, 0, 4))


def test_every_reader_has_protocols_on_its_own_splits():
    for name, reader in READERS.items():
        protocols = protocols_for(name)
        assert protocols[0].default
        assert set(splits_of(protocols)) <= set(reader.info.splits)
        assert all(protocol.citation == reader.info.paper for protocol in protocols)


def test_every_name_of_a_data_set_is_served():
    for name in DATASET_NAMES:
        assert protocols_for(name)


def test_definitions_say_what_differs():
    texts = {protocol.definition for protocol in PROTOCOLS.values() if protocol.dataset == "prcc"}
    assert len(texts) == 4
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert f"`{protocol.query}`" in protocol.definition
        assert f"`{protocol.gallery}`" in protocol.definition
        assert MATCH_RULES[protocol.match].text in protocol.definition
        assert ("drawn 10 times" in protocol.definition) == (protocol.trials == 10)


def test_names():
    assert get_protocol("prcc/cloth_changing").query == "query_diff"
    assert get_protocol("cloth_changing", "prcc") is get_protocol("prcc/cloth_changing")
    assert get_protocol("standard", "csv") is get_protocol("custom/standard")
    assert [protocol.name for protocol in protocols_for("last")] == [
        "last/standard",
        "last/val_standard",
    ]
    assert protocols_for("folder") == protocols_for("custom")


def test_splits_are_listed_once():
    assert splits_of(protocols_for("prcc")) == ("query_same", "gallery", "query_diff")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: get_protocol("ltcc/clothchanging"),
            r"no protocol is called 'ltcc/clothchanging'\. Did you mean ltcc/cloth_changing\? "
            r"Accepted: ltcc/standard, ltcc/cloth_changing",
        ),
        (lambda: get_protocol("standrad", "prcc"), "no protocol is called 'standrad'"),
        (lambda: get_protocol("qqq"), r"no protocol is called 'qqq'\. Accepted"),
        (
            lambda: protocols_for("lttc"),
            r"no protocols for the data set 'lttc'\. Did you mean ltcc\? Data sets: csv, custom",
        ),
        (
            lambda: choose_protocols(dataset(query=QUERY, gallery=GALLERY), ["standard", "nope"]),
            "no protocol is called 'nope'",
        ),
        (
            lambda: choose_protocols(dataset(train=QUERY), ["standard"]),
            r"ltcc/standard needs the split 'query', which is not there \(splits present: train\)",
        ),
        (
            lambda: choose_protocols(dataset(train=QUERY)),
            "ltcc in data cannot be evaluated: ltcc/standard needs the split 'query'",
        ),
        (
            lambda: choose_protocols(dataset(query=QUERY, gallery=[]), ["standard"]),
            "ltcc/standard needs the split 'gallery', which is empty",
        ),
        (
            lambda: choose_protocols(
                dataset(query=QUERY, gallery=images((1, 1, -1), (2, 1, 3))), ["same_clothes"]
            ),
            r"ltcc/same_clothes compares outfits, but 1 of 2 images of gallery have no outfit "
            r"label \(clothes_id\); without outfits only ltcc/standard can be computed",
        ),
        (
            lambda: choose_protocols(dataset(query=QUERY, gallery=images((7, 1, 1))), ["standard"]),
            "no identity of query occurs in gallery; check that both number identities alike",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ProtocolError, match=message):
        call()


def test_labels_choose_the_default_protocols(caplog):
    full = choose_protocols(dataset(query=QUERY, gallery=GALLERY))
    assert [protocol.name for protocol in full] == [
        "ltcc/standard",
        "ltcc/cloth_changing",
        "ltcc/same_clothes",
    ]
    bare = [Sample(sample.path, sample.pid, sample.camid) for sample in GALLERY]
    with caplog.at_level(logging.WARNING):
        (only,) = choose_protocols(dataset("csv", query=QUERY, gallery=bare))
    assert only.name == "custom/standard"
    assert [record.message.split()[0] for record in caplog.records] == [
        "custom/cloth_changing",
        "custom/same_clothes",
    ]


def test_protocols_asked_for_are_taken_once_and_in_order():
    chosen = choose_protocols(
        dataset(query=QUERY, gallery=GALLERY), ["same_clothes", "ltcc/standard", "same_clothes"]
    )
    assert [protocol.name for protocol in chosen] == ["ltcc/same_clothes", "ltcc/standard"]


@pytest.mark.parametrize(
    ("gallery", "notes", "warning"),
    [
        (GALLERY, [], ""),
        (images((1, 1, 0)), ["share no camera"], ""),
        (images((1, 0, 0)), [], "no image of query has a match in gallery; all results will be 0"),
    ],
)
def test_notes(gallery, notes, warning):
    found = applicable(PROTOCOLS["ltcc/standard"], {"query": QUERY, "gallery": gallery})
    assert found.ok
    assert len(found.notes) == len(notes)
    assert all(part in note for note, part in zip(found.notes, notes, strict=True))
    assert warning in found.warning
    assert bool(found.warning) == bool(warning)


@pytest.mark.parametrize("names", [(), ("standard",)])
def test_protocols_without_any_match_are_announced(caplog, names):
    chosen = choose_protocols(dataset(query=QUERY, gallery=images((1, 0, 0))), names)
    assert "ltcc/standard" in {protocol.name for protocol in chosen}
    assert "ltcc/standard: no image of query has a match" in caplog.text


def test_single_shot_draws_are_those_of_the_global_generator():
    pids = np.random.default_rng(0).integers(5, 9, 40).tolist()
    state = random.getstate()
    draws = single_shot_draws(pids, 10)
    assert random.getstate() == state
    random.seed(3)
    for draw in draws:
        expected = [
            random.choice([row for row, other in enumerate(pids) if other == pid])
            for pid in dict.fromkeys(pids)
        ]
        assert draw.tolist() == expected


@pytest.fixture(scope="module")
def prcc():
    rng = np.random.default_rng(0)
    labels = {
        "gallery": [(pid, 0, 2 * pid) for pid in range(6) for _ in range(5)],
        "query_same": [(pid, 1, 2 * pid) for pid in range(6) for _ in range(3)],
        "query_diff": [(pid, 2, 2 * pid + 1) for pid in range(6) for _ in range(4)],
    }
    splits = {name: images(*triples) for name, triples in labels.items()}
    centres = rng.standard_normal((6, 8))
    features = {
        name: l2_normalize(
            torch.from_numpy(
                centres[[sample.pid for sample in samples]]
                + 1.5 * rng.standard_normal((len(samples), 8))
            )
        )
        for name, samples in splits.items()
    }
    return splits, features


def test_whole_gallery(prcc):
    splits, features = prcc
    result = evaluate_protocol(PROTOCOLS["prcc/cloth_changing"], splits, features)
    ranking = rank_gallery(
        features["query_diff"],
        features["gallery"],
        Labels.of(splits["query_diff"]),
        Labels.of(splits["gallery"]),
    )
    summary = result.summary()
    assert {name: summary[name] for name in ranking.summary()} == ranking.summary()
    assert (summary["num_gallery"], summary["num_trials"]) == (30, 1)
    assert summary["protocol"] == "prcc/cloth_changing"
    assert summary["definition"] == PROTOCOLS["prcc/cloth_changing"].definition
    assert not any(name.endswith("_std") for name in summary)
    np.testing.assert_array_equal(result.cmc(7), ranking.cmc(7))


def test_single_shot_is_the_mean_over_the_draws(prcc):
    splits, features = prcc
    protocol = PROTOCOLS["prcc/cloth_changing_single_shot"]
    result = evaluate_protocol(protocol, splits, features)
    assert len(result.trials) == 10
    gallery = Labels.of(splits["gallery"])
    rank1s = []
    for draw, trial in zip(gallery_draws(protocol, gallery.pids), result.trials, strict=True):
        assert gallery.pids[draw].tolist() == list(range(6))
        products = features["query_diff"].double() @ features["gallery"][draw].double().T
        best = gallery.pids[draw][products.argmax(1)]
        rank1s.append((best == Labels.of(splits["query_diff"]).pids).mean())
        assert trial.rank_k(1) == pytest.approx(rank1s[-1])
    summary = json.loads(json.dumps(result.summary()))
    assert summary["rank1"] == pytest.approx(np.mean(rank1s))
    assert summary["rank1_std"] == pytest.approx(np.std(rank1s))
    assert np.std(rank1s) > 0
    assert summary["chance_rank1"] == pytest.approx(1 / 6)
    assert (summary["num_queries"], summary["num_gallery"], summary["num_trials"]) == (24, 6, 10)
    assert result.cmc(6)[0] == pytest.approx(summary["rank1"])


def test_no_match_gives_zeros():
    splits = {"query": images((1, 0, 0)), "gallery": images((1, 0, 0), (2, 0, 0))}
    features = {name: torch.eye(4)[: len(samples)] for name, samples in splits.items()}
    summary = evaluate_protocol(PROTOCOLS["custom/standard"], splits, features).summary()
    assert summary["num_valid"] == 0
    assert summary["rank1"] == summary["mAP"] == summary["mINP"] == summary["chance_mAP"] == 0


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"query": torch.eye(2)}, r"needs features of the split 'gallery' \(features of: query\)"),
        (
            {"query": torch.eye(4)[:2], "gallery": torch.eye(4)[:3]},
            "gallery: 3 feature rows but labels of 4 images",
        ),
        (
            {"query": torch.eye(4)[:2], "gallery": torch.full((4, 4), torch.nan)},
            r"NaN or infinite values in 4 of 4 rows: 0 \(0\.jpg\), 1 \(1\.jpg\)",
        ),
    ],
)
def test_features_that_do_not_fit(features, message):
    splits = {"query": QUERY, "gallery": GALLERY}
    with pytest.raises(ProtocolError, match=message):
        evaluate_protocol(PROTOCOLS["ltcc/standard"], splits, features)


@pytest.mark.parametrize(("scale", "warned"), [(1, False), (2.5, True)])
def test_lengths_other_than_one_are_told(caplog, prcc, scale, warned):
    splits, features = prcc
    features = {**features, "gallery": features["gallery"] * scale}
    with caplog.at_level(logging.WARNING):
        evaluate_protocol(PROTOCOLS["prcc/same_clothes"], splits, features)
    assert [record.message for record in caplog.records] == [
        "features of 'gallery' have lengths from 2.5 to 2.5, not 1: images are ranked by inner "
        "product, which is not the cosine; use l2_normalize"
    ] * warned


def test_a_protocol_that_the_labels_do_not_allow():
    splits = {"query": images((1, 0)), "gallery": images((1, 1))}
    features = {name: torch.ones(1, 1) for name in splits}
    with pytest.raises(ProtocolError, match="compares outfits"):
        evaluate_protocol(PROTOCOLS["custom/cloth_changing"], splits, features)


def test_protocols_import_no_torch():
    code = (
        "import sys; from reid_core.evaluation import PROTOCOLS, choose_protocols;"
        "import reid_core.evaluation.protocols; assert 'torch' not in sys.modules;"
        "from reid_core.evaluation import Ranking; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_of_the_package():
    import reid_core.evaluation

    assert reid_core.evaluation.Ranking is Ranking
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        reid_core.evaluation.nothing  # noqa: B018
    assert all(hasattr(reid_core.evaluation, name) for name in reid_core.evaluation.__all__)
