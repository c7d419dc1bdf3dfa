"""DeskPro's evaluation.json and distance.npz: Market's rules on given distances, part features.

The official program divides a missing face by its zero length, so its distances are NaN there, and
it ranks them in whatever order its sort leaves NaN in. Ours are finite (a missing part adds
nothing). Of the official behaviour only this can be compared: some order of the NaN distances
behind all others gives the official figures.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from reid_core.evaluation import PROTOCOLS, Labels, evaluate_protocol
from reid_core.evaluation.parts import l2_normalize_parts
from reid_core.testing.golden import fill, fill_uniform
from reid_core.testing.score_features import features_of_scores

GOLDEN_METHOD = "deskpro"
TOLERANCE = 1e-12  # golden README
CYTHON_TOLERANCE = 1e-6  # spec: that evaluator adds in float32 and agrees to 3e-8

FACE_PARTS = 7


@pytest.fixture(scope="module")
def cases(golden):
    return golden.json("evaluation.json")


def rank(case, distances, protocol="custom/standard"):
    query, gallery = features_of_scores(-distances)
    splits = {
        "query": Labels(pids=case["q_pids"], camids=case["q_cams"]),
        "gallery": Labels(pids=case["g_pids"], camids=case["g_cams"]),
    }
    return evaluate_protocol(
        PROTOCOLS[protocol], splits, {"query": query, "gallery": gallery}
    ).trials[0]


def distances_of(case):
    assert set(case) == {
        *("name", "dist_name", "nq", "ng", "q_pids", "g_pids", "q_cams", "g_cams"),
        *("max_rank", "nan", "py", "cy"),
    }
    assert set(case["nan"]) <= {"g"}
    return fill_uniform(case["dist_name"], (case["nq"], case["ng"]))


def assert_official(case, curve, mean_ap):
    for name, tolerance in (("py", TOLERANCE), ("cy", CYTHON_TOLERANCE)):
        official = case[name]
        assert set(official) == {"cmc", "mAP"}
        assert len(official["cmc"]) == case["max_rank"]
        about = (case["name"], name)
        np.testing.assert_allclose(
            curve, official["cmc"], rtol=0, atol=tolerance, err_msg=str(about)
        )
        assert mean_ap == pytest.approx(official["mAP"], abs=tolerance), about


def test_evaluations(cases):
    finite = [case for case in cases if not case["nan"]]
    assert finite
    for case in finite:
        ranking = rank(case, distances_of(case))
        assert_official(case, ranking.cmc(case["max_rank"]), ranking.mean_ap)


def test_without_cameras(cases):
    """Where no camera is shared the rule for images without cameras is the same."""
    finite = [case for case in cases if not case["nan"]]
    apart = [case for case in finite if set(case["q_cams"]).isdisjoint(case["g_cams"])]
    assert apart
    for case in apart:
        ranking = rank(case, distances_of(case), "celeb_light/standard")
        assert_official(case, ranking.cmc(case["max_rank"]), ranking.mean_ap)


def test_distances_that_are_nan(cases):
    missing = [case for case in cases if case["nan"]]
    assert missing
    for case in missing:
        assert_official(case, *nearest_to_official(case))


def nearest_to_official(case):
    """CMC and mAP of the orders of the NaN distances that come nearest to the official ones."""
    columns = case["nan"]["g"]
    rankings = []
    for order in itertools.permutations(range(len(columns))):
        distances = distances_of(case)
        distances[:, columns] = 2 + np.array(order)
        rankings.append(rank(case, distances))
    curves = np.array([ranking.cmc(case["max_rank"]) for ranking in rankings])
    curve = np.clip(case["py"]["cmc"], curves.min(axis=0), curves.max(axis=0))
    # Each query may have any of these: is there a choice whose mean is the official one?
    precisions = np.array([ranking.average_precision for ranking in rankings])
    sums = np.zeros(1)
    for own in precisions.T[rankings[0].valid]:
        sums = np.unique((sums[:, None] + np.unique(own)).round(14))
    means = sums / rankings[0].num_valid
    return curve, means[np.abs(means - case["py"]["mAP"]).argmin()]


@pytest.fixture(scope="module")
def parts(golden):
    """Part features (images, 512, 14) of queries and gallery: 7 of the face, 7 of the body."""
    return {
        side: torch.from_numpy(fill(golden.input_name(f"dist.{side}"), (count, 512, 14)))
        for side, count in (("q", 5), ("g", 7))
    }


def part_distances(query, gallery, first=0, last=14):
    rows = [l2_normalize_parts(side[:, :, first:last]) for side in (query, gallery)]
    return (1 - rows[0] @ rows[1].T).numpy()


def without_a_face(gallery):
    gallery = gallery.clone()
    gallery[2, :, :FACE_PARTS] = 0
    return gallery


def test_part_distances(golden, parts):
    arrays = golden.arrays("distance.npz")
    query, gallery = parts["q"].double(), parts["g"].double()
    missing = without_a_face(gallery)
    lengths = torch.linalg.vector_norm(l2_normalize_parts(query), dim=1) ** 2
    found = {
        "dist_all": part_distances(query, gallery),
        "dist_face": part_distances(query, gallery, last=FACE_PARTS),
        "dist_body": part_distances(query, gallery, first=FACE_PARTS),
        "q_norm2": lengths.numpy(),
        "dist_all_safe_missing_face_g2": part_distances(query, missing),
    }
    official = arrays.pop("dist_all_official_missing_face_g2")
    assert set(arrays) == set(found)
    for name, values in found.items():
        np.testing.assert_allclose(values, arrays[name], rtol=0, atol=TOLERANCE, err_msg=name)
    # Official: NaN in the column of the image without a face, the same elsewhere.
    assert np.isnan(official[:, 2]).all()
    safe = found["dist_all_safe_missing_face_g2"]
    np.testing.assert_allclose(
        np.delete(safe, 2, axis=1), np.delete(official, 2, axis=1), rtol=0, atol=TOLERANCE
    )
    body = part_distances(query, gallery, first=FACE_PARTS)
    np.testing.assert_allclose(safe[:, 2], body[:, 2], rtol=0, atol=TOLERANCE)


def test_part_features_rank_by_the_sum_of_cosines(golden, parts):
    """In float32, through the evaluation, with an image without a face in the gallery."""
    expected = golden.arrays("distance.npz")["dist_all_safe_missing_face_g2"]
    features = {
        "query": l2_normalize_parts(parts["q"]),
        "gallery": l2_normalize_parts(without_a_face(parts["g"])),
    }
    assert features["query"].dtype == torch.float32
    splits = {
        "query": Labels(pids=np.arange(5)),
        "gallery": Labels(pids=np.array([0, 1, 2, 3, 4, 0, 2])),
    }
    ranking = evaluate_protocol(PROTOCOLS["celeb_light/standard"], splits, features).trials[0]
    for query, distances in enumerate(expected):
        order = splits["gallery"].pids[np.argsort(distances)]
        hits = np.flatnonzero(order == query) + 1
        precisions = np.arange(1, len(hits) + 1) / hits
        assert ranking.average_precision[query] == pytest.approx(precisions.mean(), abs=TOLERANCE)
