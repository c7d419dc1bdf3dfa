"""The section on pseudo labels."""

import pytest

from reid_core.report.clusters import clusters_section

QUALITY = {"purity": 0.5, "ari": 0.25, "num_clusters": 40, "num_singletons": 12}


def record(cycle, stage, **figures):
    return {"kind": "clusters", "epoch": 2 * cycle, "cycle": cycle, stage: {**QUALITY, **figures}}


RECORDS = [
    {"kind": "train", "epoch": 0, "loss": 1.0},
    record(0, "intra"),
    record(0, "inter", purity=0.3, cross_camera_recall=0.1),
    record(1, "intra", purity=0.625),
    record(1, "inter", purity=0.4, cross_camera_recall=0.2),
]


def test_both_stages_by_cycle():
    page = clusters_section(RECORDS, synthetic=False)
    for text in (
        "Each camera by itself, agreement with the true identities: purity 62.5 % in cycle 2, "
        "ARI 25.0 % in cycle 2",
        "All cameras together, agreement with the true identities: purity 40.0 % in cycle 2, "
        "ARI 25.0 % in cycle 2, cross-camera pairs found 20.0 % in cycle 2",
        "All cameras together, number of clusters: clusters 40 in cycle 2, of one image 12 in "
        "cycle 2",
    ):
        assert text in page
    assert page.count("<svg") == 4
    assert "synthetic" not in page


def test_without_identities_the_numbers_remain():
    figures = {"num_clusters": 40, "num_singletons": 12}
    page = clusters_section(
        [{"kind": "clusters", "epoch": 0, "cycle": 0, "inter": figures}], synthetic=True
    )
    assert page.count("<svg") == 1
    assert "true identities</" not in page
    assert "synthetic" in page


@pytest.mark.parametrize("metrics", [[], RECORDS[:1], [{"kind": "clusters", "epoch": 0}]])
def test_nothing_where_nothing_was_clustered(metrics):
    assert clusters_section(metrics, synthetic=False) == ""
