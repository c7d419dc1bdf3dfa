"""RegDB's trials, each with a network of its own, and LLCM's three protocols."""

import json

import pytest

from reid_core.testing.commands import run_installed


@pytest.fixture(scope="module")
def regdb(make_data):
    return make_data("regdb")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, regdb, small):
    """Return a folder with runs of both trials that the miniature has."""
    folder = tmp_path_factory.mktemp("trials")
    for trial in (1, 2):
        args = ("--data", regdb, *small, "--epochs", "1", "--trial", trial)
        run_installed("agw-train", *args, "--out", f"regdb-{trial}", cwd=folder)
    return folder


def results(folder):
    return json.loads((folder / "results.json").read_text())["results"]


def test_a_pattern_averages_the_trials(trained, regdb, tmp_path):
    args = ("--weights", trained / "regdb-{trial}", "--data", regdb, "--out", "all")
    run_installed("agw-eval", *args, cwd=tmp_path)
    found = results(tmp_path / "all")
    each = [results(trained / f"regdb-{trial}") for trial in (1, 2)]
    assert set(found) == {"regdb/visible_to_thermal", "regdb/thermal_to_visible"}
    for protocol, figures in found.items():
        assert figures["num_trials"] == 2
        for name in ("rank1", "mAP", "mINP"):
            expected = [single[protocol][name] for single in each]
            assert figures[name] == pytest.approx(sum(expected) / 2, abs=1e-12)


def test_weights_are_evaluated_on_their_own_trial(trained, regdb, tmp_path):
    args = ("--weights", trained / "regdb-2", "--data", regdb, "--out", "own")
    run_installed("agw-eval", *args, "--dataset", "regdb", "--tvsearch", cwd=tmp_path)
    expected = results(trained / "regdb-2")["regdb/thermal_to_visible"]
    assert results(tmp_path / "own") == {"regdb/thermal_to_visible": expected}


def test_a_missing_trial_stops_the_evaluation(trained, regdb, tmp_path):
    (tmp_path / "regdb-1").symlink_to(trained / "regdb-1")
    args = ("--weights", "regdb-{trial}", "--data", regdb, "--out", "all")
    done = run_installed("agw-eval", *args, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "regdb-2" in done.stderr
    assert not (tmp_path / "all").exists()


def test_llcm_prints_each_protocol_beside_its_own_table(make_data, small, tmp_path):
    args = ("--data", make_data("llcm"), *small, "--epochs", "1", "--out", "run")
    printed = run_installed("agw-train", *args, cwd=tmp_path).stdout
    record = json.loads((tmp_path / "run/results.json").read_text())
    assert set(record["results"]) == {"llcm/ir2vis", "llcm/vis2ir", "llcm/vis2ir_readme"}
    assert record["published"]["llcm/vis2ir_readme"]["rank1"] == 0.6372
    assert record["published"]["llcm/vis2ir"]["mAP"] == 0.553
    for source in ("LLCM repository, 2023-06-24", "Zhang and Wang, CVPR 2023"):
        assert source in printed
