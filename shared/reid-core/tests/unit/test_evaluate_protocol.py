"""Evaluation under protocols: against a brute-force definition, over trials, and its refusals."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.data.sample import Sample
from reid_core.errors import ConfigError, MemoryLimitError, ProtocolError
from reid_core.evaluation import (
    PROTOCOLS,
    Labels,
    Protocol,
    RerankConfig,
    applicable,
    evaluate_protocol,
    expand_queries,
    l2_normalize,
    plan_searches,
    rank_gallery,
    rank_scores,
    rerank,
    single_shot_draws,
)
from reid_core.testing.score_features import features_of_scores

MATCHES = ("standard", "cloth_changing", "same_clothes", "any_camera")


def images(*labels):
    """Samples from (pid, camid, clothes_id)."""
    return [Sample(Path(f"{i}.jpg"), *label) for i, label in enumerate(labels)]


def definition(protocol, query, gallery, scores):
    """Row of every query to (AP, INP, rank of its first hit or of its identity), None without."""
    found = {}
    for q in chosen(query, protocol.query_modality, protocol.query_cameras):
        seen = [
            g
            for g in chosen(gallery, protocol.gallery_modality, protocol.gallery_cameras)
            if (query.camids[q], gallery.camids[g]) not in protocol.hidden
        ]
        right = {g: is_match(protocol.match, query, gallery, q, g) for g in seen}
        others = [g for g in seen if gallery.pids[g] != query.pids[q]]
        kept = [g for g in seen if right[g]] + others
        # Minus the score first; False, another identity, sorts before True.
        ranking = sorted((-scores[q, g], right[g]) for g in kept)
        hits = [rank for rank, (_, hit) in enumerate(ranking, 1) if hit]
        found[q] = None
        if hits:
            best = max(scores[q, g] for g in kept if right[g])
            rivals = {gallery.pids[g] for g in others if scores[q, g] >= best}
            first = 1 + len(rivals) if protocol.cmc == "identity" else hits[0]
            precisions = [k / rank for k, rank in enumerate(hits, 1)]
            found[q] = (math.fsum(precisions) / len(hits), precisions[-1], first)
    return found


def chosen(labels, modality, cameras):
    return [
        row
        for row in range(len(labels))
        if labels.pids[row] >= 0
        and modality in (None, labels.modalities[row])
        and (cameras is None or labels.camids[row] in cameras)
    ]


def is_match(match, query, gallery, q, g):
    clothes = query.clothes_ids[q] == gallery.clothes_ids[g]
    elsewhere = query.camids[q] != gallery.camids[g]
    rule = {
        "any_camera": True,
        "standard": elsewhere,
        "same_clothes": elsewhere and clothes,
        "cloth_changing": elsewhere and not clothes,
    }
    return bool(query.pids[q] == gallery.pids[g] and rule[match])


@st.composite
def labelled(draw, count):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_pids, num_cameras = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    lowest = draw(st.sampled_from([0, -1]))
    return Labels(
        pids=rng.integers(lowest, num_pids, count),
        camids=rng.integers(0, num_cameras, count),
        clothes_ids=rng.integers(0, 2, count),
        modalities=rng.choice(["visible", "infrared"], count),
    )


@st.composite
def cases(draw):
    """A protocol with any filters, labels of two lists, and scores full of ties."""
    modalities = st.sampled_from([None, None, None, None, "visible", "infrared"])
    cameras = st.sampled_from([None, None, None, None, (0,), (0, 2), (1, 2)])
    pairs = st.tuples(st.integers(0, 2), st.integers(0, 2))
    protocol = Protocol(
        name="custom/any",
        match=draw(st.sampled_from(MATCHES)),
        query_modality=draw(modalities),
        gallery_modality=draw(modalities),
        query_cameras=draw(cameras),
        gallery_cameras=draw(cameras),
        hidden=tuple(draw(st.sets(pairs, max_size=3))),
        cmc=draw(st.sampled_from(["image", "identity"])),
    )
    query = draw(labelled(draw(st.integers(1, 7))))
    gallery = draw(labelled(draw(st.integers(1, 14))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 4, 1000]))
    return protocol, query, gallery, rng.integers(0, levels, (len(query), len(gallery)))


def found_by(result):
    (ranking,) = result.trials
    ranks = ranking.first_hit if ranking.first_identity is None else ranking.first_identity
    values = (ranking.average_precision, ranking.inverse_negative_penalty, ranks)
    return {
        row: tuple(value[place].item() for value in values) if ranking.valid[place] else None
        for place, row in enumerate(result.query_rows().tolist())
    }


@settings(deadline=None, max_examples=300)
@given(cases())
def test_equals_the_definition(case):
    protocol, query, gallery, scores = case
    expected = definition(protocol, query, gallery, scores)
    splits = {"query": query, "gallery": gallery}
    features = dict(zip(splits, features_of_scores(scores), strict=True))
    if applicable(protocol, splits).problem:
        # Only where no query could have a match.
        assert not any(expected.values())
        with pytest.raises(ProtocolError, match="cannot be computed"):
            evaluate_protocol(protocol, splits, features)
        return
    result = evaluate_protocol(protocol, splits, features)
    assert found_by(result) == expected
    valid = [values for values in expected.values() if values]
    summary = result.summary()
    assert (summary["num_queries"], summary["num_valid"]) == (len(expected), len(valid))
    curve = [np.mean([rank <= k for *_, rank in valid] or [0]) for k in range(1, 16)]
    np.testing.assert_allclose(result.cmc(15), curve, rtol=1e-14)
    for place, name in enumerate(("mAP", "mINP")):
        mean = math.fsum(values[place] for values in valid) / max(1, len(valid))
        assert summary[name] == pytest.approx(mean, rel=1e-14)


@settings(deadline=None, max_examples=30)
@given(cases(), st.integers(0, 2**32 - 1))
def test_order_of_the_files_changes_nothing(case, seed):
    protocol, query, gallery, scores = case
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(query)), rng.permutation(len(gallery))
    tried = []
    for labels, values in (
        ((query, gallery), scores),
        ((query.take(rows), gallery.take(columns)), scores[np.ix_(rows, columns)]),
    ):
        splits = dict(zip(("query", "gallery"), labels, strict=True))
        features = dict(zip(splits, features_of_scores(values), strict=True))
        try:
            tried.append(evaluate_protocol(protocol, splits, features).summary())
        except ProtocolError as error:
            tried.append(str(error))
    assert tried[0] == tried[1]


def test_trials_with_equal_figures_have_no_spread():
    """NumPy's deviation of three times 0.4 is 5.6e-17: their mean is not quite 0.4."""
    splits = {"query": Labels(pids=[0, 1, 2, 3, 4]), "gallery": Labels(pids=[0, 1, 2, 3, 4])}
    scores = torch.eye(5)[[0, 1, 3, 4, 2]]
    protocol = PROTOCOLS["custom/any_camera"]
    result = evaluate_protocol(protocol, splits, {"query": scores, "gallery": torch.eye(5)})
    summary = replace(
        result, trials=result.trials * 3, searches=result.searches * 3, numbers=(0, 1, 2)
    ).summary()
    assert (summary["rank1"], summary["num_trials"]) == (pytest.approx(0.4), 3)
    spreads = {name: value for name, value in summary.items() if name.endswith("_std")}
    assert len(spreads) >= 5
    assert not any(spreads.values())


def test_a_gallery_of_one_image_all_junk_and_duplicates():
    """Cases that hypothesis may pass over."""
    one = Labels(pids=[1], camids=[0])
    for camera, valid in ((0, 0), (1, 1)):
        splits = {"query": one, "gallery": Labels(pids=[1], camids=[camera])}
        features = {"query": torch.ones(1, 3), "gallery": torch.ones(1, 3)}
        summary = evaluate_protocol(PROTOCOLS["custom/standard"], splits, features).summary()
        assert (summary["num_valid"], summary["rank1"], summary["mAP"]) == (valid,) * 3
        assert summary["num_gallery"] == 1
    # The same feature everywhere: whoever it is comes last.
    many = Labels(pids=np.arange(50) % 5, camids=np.ones(50, int))
    features = {"query": torch.ones(1, 3), "gallery": torch.ones(50, 3)}
    result = evaluate_protocol(
        PROTOCOLS["custom/standard"], {"query": one, "gallery": many}, features
    )
    assert result.trials[0].first_hit.tolist() == [41]


@pytest.fixture(scope="module")
def clusters():
    """Labels and unit features of 8 people before 6 cameras, some combinations without images."""
    rng = np.random.default_rng(0)
    rows = [
        (pid, camera) for pid in range(8) for camera in range(6) for _ in range(rng.integers(0, 5))
    ]
    pids, camids = np.array(rows).T
    labels = Labels(
        pids=pids,
        camids=camids,
        modalities=np.where(np.isin(camids, [2, 5]), "infrared", "visible"),
        paths=tuple(Path(f"{row:03d}.jpg") for row in range(len(rows))),
    )
    centers = rng.standard_normal((8, 16))
    features = centers[pids] + 1.3 * rng.standard_normal((len(rows), 16))
    return labels, l2_normalize(torch.from_numpy(features))


@pytest.mark.parametrize(
    "name",
    [
        "sysu/all_search",
        "sysu/indoor_search",
        "sysu/all_search_multi_shot",
        "llcm/ir2vis",
        "llcm/vis2ir",
        "llcm/vis2ir_readme",
    ],
)
def test_trials_of_drawn_lists(clusters, name):
    labels, features = clusters
    protocol = PROTOCOLS[name]
    result = evaluate_protocol(protocol, {"test": labels}, {"test": features})
    assert result.numbers == tuple(range(10))
    scores = (features.double() @ features.double().T).numpy()
    for trial in (0, 3, 9):
        plan = plan_searches(protocol, labels, labels, trial)
        queries = np.sort(np.concatenate([search.queries for search in plan]))
        searched = np.unique(np.concatenate([search.gallery for search in plan]))
        drawn = replace(
            labels, pids=np.where(np.isin(np.arange(len(labels)), searched), labels.pids, -1)
        )
        asking = replace(
            labels, pids=np.where(np.isin(np.arange(len(labels)), queries), labels.pids, -1)
        )
        expected = definition(protocol, asking, drawn, scores)
        single = evaluate_protocol(protocol, {"test": labels}, {"test": features}, trials=[trial])
        assert single.numbers == (trial,)
        assert found_by(single) == expected
        whole, alone = result.trials[trial], single.trials[0]
        np.testing.assert_array_equal(whole.average_precision, alone.average_precision)
        np.testing.assert_array_equal(result.query_rows(trial), queries)
        assert single.num_gallery == len(searched)
    summary = json.loads(json.dumps(result.summary()))
    means = [ranking.mean_ap for ranking in result.trials]
    assert summary["mAP"] == pytest.approx(np.mean(means))
    assert summary["mAP_std"] == pytest.approx(np.std(means))
    assert summary["num_trials"] == 10
    assert np.std(means) > 0 or name == "sysu/all_search_multi_shot"


def test_lists_of_their_own(clusters):
    """RegDB: every trial has images, and usually features, of its own."""
    labels, features = clusters
    protocol = PROTOCOLS["regdb/visible_to_thermal"]
    splits = {"test_1": labels, "test_3": labels.take(np.arange(0, len(labels), 2))}
    values = {"test_1": features, "test_3": l2_normalize(features[::2] + 0.1)}
    result = evaluate_protocol(protocol, splits, values)
    assert result.numbers == (0, 2)
    for number, ranking in zip(result.numbers, result.trials, strict=True):
        name = f"test_{number + 1}"
        alone = evaluate_protocol(protocol, splits, values, trials=[number])
        np.testing.assert_array_equal(alone.trials[0].first_hit, ranking.first_hit)
        visible = np.flatnonzero(splits[name].modalities == "visible")
        infrared = np.flatnonzero(splits[name].modalities == "infrared")
        expected = rank_gallery(
            values[name][torch.from_numpy(visible)],
            values[name][torch.from_numpy(infrared)],
            splits[name].take(visible),
            splits[name].take(infrared),
            "any_camera",
        )
        np.testing.assert_array_equal(ranking.average_precision, expected.average_precision)
    summary = result.summary()
    assert summary["num_queries"] == np.mean([len(ranking) for ranking in result.trials])
    assert summary["num_trials"] == 2
    *_, note = summary["notes"]
    assert note.startswith("evaluated on list 1, 3 of 10; published figures are means over all")
    swapped = evaluate_protocol(PROTOCOLS["regdb/thermal_to_visible"], splits, values)
    assert swapped.query_rows().tolist() == np.flatnonzero(labels.modalities == "infrared").tolist()
    with pytest.raises(ProtocolError, match=r"has the trials 0, 2, not 1"):
        evaluate_protocol(protocol, splits, values, trials=[1])


@pytest.mark.parametrize("name", ["sysu/all_search", "custom/standard", "llcm/ir2vis"])
def test_other_scorings(clusters, name):
    """Every search is re-ranked, or its queries expanded, with its own images."""
    labels, features = clusters
    protocol = PROTOCOLS[name]
    splits = dict.fromkeys(protocol.splits, labels)
    values = dict.fromkeys(protocol.splits, features)
    config = RerankConfig(k1=5, k2=2)
    trials = [0]
    reranked = evaluate_protocol(protocol, splits, values, trials=trials, rerank=config)
    expanded = evaluate_protocol(protocol, splits, values, trials=trials, expand=2)
    plain = evaluate_protocol(protocol, splits, values, trials=trials)
    assert plain.scoring == "cosine"
    assert reranked.scoring == "k-reciprocal re-ranking (k1 5, k2 2, lambda 0.3)"
    assert expanded.scoring == "cosine, queries averaged with their 2 nearest gallery images"
    assert reranked.summary()["scoring"] == reranked.scoring
    rows = plain.query_rows()
    for search in plan_searches(protocol, labels, labels, 0):
        query, gallery = labels.take(search.queries), labels.take(search.gallery)
        left, right = (
            features[torch.from_numpy(side)] for side in (search.queries, search.gallery)
        )
        places = np.searchsorted(rows, search.queries)
        scores = rerank(left, right, config)
        for result, expected in (
            (reranked, rank_scores(scores, query, gallery, protocol.match)),
            (
                expanded,
                rank_gallery(expand_queries(left, right, 2), right, query, gallery, protocol.match),
            ),
        ):
            np.testing.assert_array_equal(
                result.trials[0].average_precision[places], expected.average_precision
            )
    assert len({result.summary()["mAP"] for result in (plain, reranked, expanded)}) == 3


def test_options_are_passed_on(clusters):
    labels, features = clusters
    splits = {"query": labels, "gallery": labels}
    values = {"query": features, "gallery": features * torch.linspace(1, 3, len(features))[:, None]}
    protocol = PROTOCOLS["custom/standard"]
    results = {
        metric: evaluate_protocol(protocol, splits, values, metric=metric)
        for metric in ("inner_product", "euclidean")
    }
    assert results["euclidean"].scoring == "Euclidean distance"
    assert results["euclidean"].summary()["mAP"] != results["inner_product"].summary()["mAP"]
    bf16 = evaluate_protocol(protocol, splits, values, precision="bf16").trials[0]
    np.testing.assert_array_equal(
        bf16.average_precision, results["inner_product"].trials[0].average_precision
    )
    with pytest.raises(ConfigError, match="no metric is called 'cosine'"):
        evaluate_protocol(protocol, splits, values, metric="cosine")
    with pytest.raises(ConfigError, match="no precision is called"):
        evaluate_protocol(protocol, splits, values, precision="fp8")
    with pytest.raises(MemoryLimitError, match="are allowed"):
        evaluate_protocol(protocol, splits, values, rerank=RerankConfig(), memory_limit=1000)


def test_a_part_of_the_gallery(clusters):
    """One process that holds all rows of a gallery that it names as its part."""
    labels, features = clusters
    protocol = PROTOCOLS["market1501/standard"]
    # Some images of nobody, so that the rows that are searched are not those of the split.
    gallery = replace(labels, pids=np.where(np.arange(len(labels)) % 5, labels.pids, -1))
    splits = {"query": labels, "gallery": gallery}
    values = {"query": features, "gallery": features}
    whole = evaluate_protocol(protocol, splits, values)
    part = evaluate_protocol(protocol, splits, values, columns=(0, len(labels)))
    np.testing.assert_array_equal(
        part.trials[0].average_precision, whole.trials[0].average_precision
    )
    with pytest.raises(ProtocolError, match="features cannot be a part of them"):
        evaluate_protocol(protocol, splits, values, columns=(0, len(labels)), rerank=RerankConfig())
    with pytest.raises(ProtocolError, match="queries and gallery from one split, 'test'"):
        evaluate_protocol(
            PROTOCOLS["sysu/all_search"], {"test": labels}, {"test": features}, columns=(0, 3)
        )


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
    assert summary["scoring"] == "cosine"
    assert not any(name.endswith("_std") for name in summary)
    np.testing.assert_array_equal(result.cmc(7), ranking.cmc(7))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("prcc/cloth_changing", "1 of 4 queries have"),
        ("prcc/cloth_changing_single_shot", "1 of 4 queries have"),
        ("regdb/visible_to_thermal", "1.5 of 3.5 queries (mean over 2 trials) have"),
    ],
)
def test_queries_without_a_match_are_told(name, words):
    def split(*pids, modality="visible"):
        return [Sample(Path(f"{i}"), pid, 0, modality=modality) for i, pid in enumerate(pids)]

    thermal = split(1, 2, modality="infrared")
    splits = {
        "query_diff": split(1, 2, 3, 2),
        "gallery": split(1, 2, 2, 4),
        "test_1": [*split(1, 2, 3, 2), *thermal],
        "test_2": [*split(1, 8, 9), *thermal],
    }
    features = {
        name: l2_normalize(torch.randn(len(samples), 4, generator=torch.Generator().manual_seed(0)))
        for name, samples in splits.items()
    }
    result = evaluate_protocol(PROTOCOLS[name], splits, features)
    first, *_ = result.notes()
    assert (
        first
        == f"{words} no match in the gallery; they are counted here, and left out of all means"
    )
    assert result.summary()["notes"] == list(result.notes())
    splits["query_diff"] = split(1, 2)
    features["query_diff"] = features["query_diff"][:2]
    if name == "prcc/cloth_changing":
        result = evaluate_protocol(PROTOCOLS[name], splits, features)
        assert result.notes() == ()
        assert "notes" not in result.summary()


def test_labels_do_as_well_as_samples(prcc):
    splits, features = prcc
    labels = {name: Labels.of(samples) for name, samples in splits.items()}
    for name in ("prcc/same_clothes", "prcc/cloth_changing_single_shot"):
        found = [evaluate_protocol(PROTOCOLS[name], given, features) for given in (splits, labels)]
        assert found[0].summary() == found[1].summary()


def test_single_shot_is_the_mean_over_the_draws(prcc):
    splits, features = prcc
    # The order of files: image 10 is listed before image 2.
    names = [sample.path.as_posix() for sample in splits["gallery"]]
    order = np.array(sorted(range(len(names)), key=names.__getitem__))
    protocol = PROTOCOLS["prcc/cloth_changing_single_shot"]
    result = evaluate_protocol(protocol, splits, features)
    assert len(result.trials) == 10
    gallery, query = Labels.of(splits["gallery"]), Labels.of(splits["query_diff"])
    rank1s = []
    draws = single_shot_draws(gallery.pids[order].tolist(), 10)
    for draw, trial in zip(draws, result.trials, strict=True):
        rows = order[draw]
        assert sorted(gallery.pids[rows].tolist()) == list(range(6))
        products = features["query_diff"].double() @ features["gallery"][rows].double().T
        best = gallery.pids[rows][products.argmax(1)]
        rank1s.append((best == query.pids).mean())
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


QUERY = images((1, 0, 0), (2, 0, 2))
GALLERY = images((1, 1, 0), (1, 1, 1), (2, 1, 2), (3, 0, 4))


@pytest.mark.parametrize("name", ["ltcc/standard", "ltcc/cloth_changing"])
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
        (
            {"query": torch.eye(4)[:2], "gallery": torch.eye(4).double()},
            r"gallery features are torch\.float64; convert",
        ),
        (
            {"query": torch.ones(2), "gallery": torch.ones(4)},
            r"query features have shape \(2,\); a matrix \(images, D\) is expected",
        ),
        (
            {"query": torch.eye(3)[:2], "gallery": torch.eye(4)},
            "query features have 3 dimensions and gallery features 4",
        ),
    ],
)
def test_features_that_do_not_fit(name, features, message):
    splits = {"query": QUERY, "gallery": GALLERY}
    with pytest.raises(ProtocolError, match=message):
        evaluate_protocol(PROTOCOLS[name], splits, features)


def test_nan_is_refused_by_file_also_where_images_are_chosen(clusters):
    labels, features = clusters
    broken = features.clone()
    broken[7, 3] = math.nan
    with pytest.raises(ProtocolError, match=r"query features .* in 1 of \d+ rows: 7 \(007\.jpg\)"):
        evaluate_protocol(PROTOCOLS["sysu/all_search"], {"test": labels}, {"test": broken})


@pytest.mark.parametrize(
    ("lengths", "warned"), [([1.0], False), ([2.5], False), ([1, 2.5, 1.0], True)]
)
def test_different_lengths_are_told(caplog, prcc, lengths, warned):
    splits, features = prcc
    scale = torch.tensor(lengths * 10)[: len(features["gallery"]), None]
    features = {**features, "gallery": features["gallery"] * (scale if warned else lengths[0])}
    with caplog.at_level(logging.WARNING):
        evaluate_protocol(PROTOCOLS["prcc/same_clothes_single_shot"], splits, features)
    assert [record.message for record in caplog.records] == [
        "features of 'gallery' have lengths from 1 to 2.5: images are ranked by inner product, "
        "which is not the cosine then; use l2_normalize, unless shorter ones lack a part"
    ] * warned
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        evaluate_protocol(PROTOCOLS["prcc/same_clothes"], splits, features, metric="euclidean")
    assert not caplog.records


def test_a_protocol_that_the_labels_do_not_allow():
    splits = {"query": images((1, 0)), "gallery": images((1, 1))}
    features = {name: torch.ones(1, 1) for name in splits}
    with pytest.raises(ProtocolError, match="compares outfits"):
        evaluate_protocol(PROTOCOLS["custom/cloth_changing"], splits, features)


@pytest.mark.parametrize("trials", [[], [10], [-1], [0, 12]])
def test_trials_that_do_not_exist(prcc, trials):
    splits, features = prcc
    with pytest.raises(ProtocolError, match=r"has the trials 0, 1, .*, 9, not"):
        evaluate_protocol(
            PROTOCOLS["prcc/same_clothes_single_shot"], splits, features, trials=trials
        )
