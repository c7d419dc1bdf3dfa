"""AGW's metrics.json: the protocols of SYSU-MM01, LLCM and RegDB on drawn galleries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from reid_core.evaluation import PROTOCOLS, Labels, evaluate_protocol
from reid_core.testing.golden import fill
from reid_core.testing.score_features import in_two_parts

GOLDEN_METHOD = "agw"
CMC_TOLERANCE = 1e-6  # golden README, as the other one: the official CMC is float32
TOLERANCE = 1e-12

# Evaluation: features and labels of the file, protocol, modality of its queries, whether the two
# sides change roles.
EVALUATIONS = {
    "sysu_single": ("sysu_single", "sysu/all_search", "infrared", False),
    "sysu_multi": ("sysu_multi", "sysu/all_search_multi_shot", "infrared", False),
    "llcm": ("llcm", "llcm/ir2vis", "infrared", False),
    "llcm_swapped_roles": ("llcm", "llcm/vis2ir_readme", "visible", True),
    "regdb_v2t": ("regdb", "regdb/visible_to_thermal", "visible", False),
    "regdb_t2v": ("regdb", "regdb/thermal_to_visible", "visible", True),
    "small_gallery_regdb": ("small", "regdb/visible_to_thermal", "visible", False),
}
OTHER = {"visible": "infrared", "infrared": "visible"}


@pytest.fixture(scope="module")
def figures(golden):
    return golden.json("metrics.json")


@pytest.fixture(scope="module")
def ids(golden):
    return golden.arrays("metrics_ids.npz")


@pytest.fixture(scope="module")
def features_of(golden):
    # The golden README calls the inputs of the public set so.
    prefix = "input" if golden.name == "public" else golden.name

    def features(tag, pids):
        """Rows l2n(noise + 0.8 center[identity]), normalised in float64."""
        centers = np.float32(0.8) * fill(f"{prefix}.metric.{tag}.centre", (512, 16))
        rows = []
        for side, own in zip("qg", pids, strict=True):
            noise = fill(f"{prefix}.metric.{tag}.{side}", (len(own), 16))
            values = (noise + centers[own]).astype(np.float64)
            rows.append(values / np.linalg.norm(values, axis=1, keepdims=True))
        return rows

    return features


@pytest.fixture(scope="module")
def case_of(ids, features_of):
    def case(tag, modality):
        """Labels and features of one list of all images: the queries, then the gallery."""
        pids = [ids[f"{tag}_{side}id"].astype(np.int64) for side in "qg"]
        counts = [len(own) for own in pids]
        # Cameras count from 1 in the file and from 0 in labels; RegDB has none.
        cameras = [ids.get(f"{tag}_{side}cam") for side in "qg"]
        labels = Labels(
            pids=np.concatenate(pids),
            camids=None if cameras[0] is None else np.concatenate(cameras).astype(np.int64) - 1,
            modalities=np.repeat([modality, OTHER[modality]], counts),
        )
        return labels, torch.cat(in_two_parts(*features_of(tag, pids))), counts[0]

    return case


def without_draws(name):
    """The protocol for the file's galleries, which are drawn already."""
    return replace(PROTOCOLS[name], query_draw="all", gallery_draw="all")


@pytest.mark.parametrize("name", list(EVALUATIONS))
def test_evaluations(name, figures, case_of):
    tag, protocol_name, modality, swapped = EVALUATIONS[name]
    protocol = without_draws(protocol_name)
    labels, features, num_queries = case_of(tag, modality)
    split, _ = protocol.splits_of_trial(0)
    result = evaluate_protocol(protocol, {split: labels}, {split: features}, trials=[0])
    rows = np.arange(len(labels))
    queries, gallery = (
        (rows[num_queries:], rows[:num_queries])
        if swapped
        else (
            rows[:num_queries],
            rows[num_queries:],
        )
    )
    np.testing.assert_array_equal(result.query_rows(), queries)
    assert result.num_gallery == len(gallery)
    assert_figures(result, figures[name])


def assert_figures(result, block):
    (ranking,) = result.trials
    assert set(block) == {"cmc", "mAP", "mINP", "n_queries", "n_valid_queries"}
    curve = block["cmc"]
    # The first 20 ranks, fewer where the gallery is smaller.
    assert len(curve) == min(20, result.num_gallery)
    np.testing.assert_allclose(result.cmc(len(curve)), curve, rtol=0, atol=CMC_TOLERANCE)
    assert ranking.mean_ap == pytest.approx(block["mAP"], abs=TOLERANCE)
    assert ranking.mean_inp == pytest.approx(block["mINP"], abs=TOLERANCE)
    assert len(ranking) == block["n_queries"]
    assert ranking.num_valid == block["n_valid_queries"]


def test_the_camera_rule_matters(figures, case_of):
    labels, features, _ = case_of("sysu_multi", "infrared")
    everything = replace(without_draws("sysu/all_search_multi_shot"), hidden=())
    result = evaluate_protocol(everything, {"test": labels}, {"test": features}, trials=[0])
    mean_ap = figures["sysu_multi"]["mAP"]
    assert result.trials[0].mean_ap != pytest.approx(mean_ap, abs=1000 * TOLERANCE)


def test_nothing_of_the_files_is_left_out(figures, ids):
    assert set(figures) == set(EVALUATIONS)
    tags = {tag for tag, *_ in EVALUATIONS.values()}
    names = {f"{tag}_{side}{kind}" for tag in tags for side in "qg" for kind in ("id", "cam")}
    assert set(ids) == names - {
        name for name in names if name.startswith(("regdb", "small")) and name.endswith("cam")
    }
