"""The four commands as people use them, on synthetic data in LTCC's true layout."""

import csv

import numpy as np
import pytest
import torch

from reid_aim import load_network
from reid_aim.config import DATASETS
from reid_core.data.naming import SYNTHETIC_LAYOUTS
from reid_core.engine import read_weights
from reid_core.testing.commands import modules_of_help
from reid_core.testing.commands import run_installed as run
from reid_core.testing.run_files import read_json, read_records, run_exported


def test_training_leaves_everything(finished):
    folder, printed = finished
    names = {path.name for path in folder.iterdir()}
    assert {
        "config.json",
        "metrics.jsonl",
        "last.pt",
        "model.safetensors",
        "model.json",
        "results.json",
        "report.html",
    } <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not [name for name in names if name.endswith(".tmp")]
    for word in ("ltcc/standard", "ltcc/cloth_changing", "Untrained", "Trained", "SYNTHETIC"):
        assert word in printed


def test_results_hold_both_states_and_the_published_row(finished):
    record = read_json(finished[0] / "results.json")
    assert record["synthetic"] is True
    assert record["preset"] == "demo"
    assert set(record["untrained"]) == set(record["results"]) >= {"ltcc/cloth_changing"}
    assert record["published"]["ltcc/cloth_changing"] == {"rank1": 0.406, "mAP": 0.191}
    assert record["best_on_test"]["epoch"] == 1  # the demo evaluates after the last epoch only
    figures = record["results"]["ltcc/cloth_changing"]
    assert 0 <= figures["rank1"] <= figures["rank5"] <= 1
    assert figures["num_valid"] <= figures["num_queries"]


def test_metrics_record_every_loss_term(finished):
    train = read_records(finished[0], "train")
    assert [record["epoch"] for record in train] == [0, 1]
    names = ["loss_id", "loss_deb", "loss_pair", "loss_clo", "loss_adv", "loss_clo2", "loss_kl"]
    names += ["acc_id", "acc_id_from_clothes", "acc_clothes", "acc_clothes2"]
    assert all(np.isfinite(record[name]) for record in train for name in names)
    assert [record["epoch"] for record in read_records(finished[0], "eval")] == [-1, 1]


def test_evaluation_of_the_run_repeats_its_figures(finished, ltcc, tmp_path):
    folder, _ = finished
    run("aim-eval", "--weights", folder, "--data", ltcc, "--out", "e", cwd=tmp_path)
    found = read_json(tmp_path / "e/results.json")["results"]
    assert found == read_json(folder / "results.json")["results"]
    assert "<html" in (tmp_path / "e/report.html").read_text()


def test_what_is_added_to_the_plain_ranking_has_rows_of_its_own(finished, ltcc, tmp_path):
    folder, _ = finished
    args = ("--weights", folder, "--data", ltcc, "--protocol", "cloth_changing", "--out", "e")
    options = ("--rerank", "--k1", "5", "--k2", "2", "--lambda", "0.5", "--expand", "2")
    bootstrap = ("--confidence", "90", "--resample", "identities", "--resamples", "200")
    printed = run("aim-eval", *args, *options, *bootstrap, cwd=tmp_path).stdout
    record = read_json(tmp_path / "e/results.json")
    name = "ltcc/cloth_changing"
    plain = record["results"][name]
    known = read_json(folder / "results.json")["results"][name]
    assert {key: plain[key] for key in known} == known
    assert list(record["variants"]) == ["expansion", "re-ranking"]
    assert "k1 5, k2 2, lambda 0.5" in record["variants"]["re-ranking"][name]["scoring"]
    for figures in (plain, *(found[name] for found in record["variants"].values())):
        low, high = figures["intervals"]["mAP"]
        assert 0 <= low <= figures["mAP"] <= high <= 1
    assert record["bootstrap"]["resample"] == "identities"
    report = (tmp_path / "e/report.html").read_text()
    for text in (printed, report):
        for words in ("Evaluated + expansion", "Evaluated + re-ranking", "90 % interval"):
            assert words in text
    tables = ["queries-ltcc-cloth_changing", "queries-ltcc-cloth_changing-re-ranking"]
    for table, figures in zip(tables, (plain, record["variants"]["re-ranking"][name]), strict=True):
        with (tmp_path / f"e/{table}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == figures["num_queries"]
        precisions = [float(row["ap"]) for row in rows if row["ap"]]
        assert len(precisions) == figures["num_valid"]
        assert np.mean(precisions) == pytest.approx(figures["mAP"], abs=1e-12)
        assert {row["path"] for row in rows} == {p.as_posix() for p in (ltcc / "query").iterdir()}


def test_official_export_evaluates_to_the_same_figures(finished, ltcc, tmp_path):
    folder, _ = finished
    official = tmp_path / "official.pth.tar"
    run("aim-export", "--weights", folder, "--format", "official", "--out", official, cwd=tmp_path)
    sizes = ("--height", "128", "--width", "64", "--batch-size", "64")
    args = ("--weights", official, "--data", ltcc, "--out", "e", *sizes)
    run("aim-eval", *args, cwd=tmp_path)
    found = read_json(tmp_path / "e/results.json")["results"]
    assert found == read_json(folder / "results.json")["results"]


def test_training_continues_from_an_official_checkpoint(finished, ltcc, tmp_path, small):
    folder, _ = finished
    official = tmp_path / "official.pth.tar"
    run("aim-export", "--weights", folder, "--format", "official", "--out", official, cwd=tmp_path)
    args = ("--data", ltcc, *small, "--epochs", "3", "--out", "run")
    run("aim-train", *args, "--resume", official, cwd=tmp_path)
    assert [record["epoch"] for record in read_records(tmp_path / "run", "train")] == [2]


def test_best_on_test_is_kept_on_request_and_labelled(ltcc, small, tmp_path):
    args = ("--data", ltcc, *small, "--run.eval-every", "1", "--select", "best", "--out", "run")
    run("aim-train", *args, cwd=tmp_path)
    record = read_json(tmp_path / "run/results.json")
    assert record["selected"] == "best"
    assert record["best_on_test"]["results"] == record["results"]
    assert "best on the TEST set" in (tmp_path / "run/report.html").read_text()
    found = read_weights(tmp_path / "run").state_dict
    kept = read_weights(tmp_path / "run/best.safetensors").state_dict
    assert all(torch.equal(found[name], kept[name]) for name in kept)


def test_embed_finds_images_and_labels(finished, ltcc, tmp_path):
    folder, _ = finished
    query = sorted((ltcc / "query").glob("*.png"))[:3]
    table = tmp_path / "some.csv"
    rows = [f"{path},{number},1" for number, path in enumerate(query)]
    table.write_text("\n".join(["path,pid,camid", *rows]))
    run("aim-embed", table, "--weights", folder, "--out", "f.npz", cwd=tmp_path)
    arrays = np.load(tmp_path / "f.npz")
    assert arrays["features"].dtype == np.float32
    assert np.allclose(np.linalg.norm(arrays["features"], axis=1), 1, atol=1e-5)
    assert arrays["pid"].tolist() == [0, 1, 2]
    assert arrays["path"].tolist() == [path.as_posix() for path in query]
    run("aim-embed", ltcc / "query", "--weights", folder, "--out", "q.parquet", cwd=tmp_path)
    import pyarrow.parquet as pq

    rows = pq.read_table(tmp_path / "q.parquet")
    assert rows.num_rows == len(list((ltcc / "query").glob("*.png")))
    assert rows.schema.field("features").type.list_size == arrays["features"].shape[1]


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_export_is_checked_and_takes_any_batch(finished, tmp_path, kind):
    folder, _ = finished
    path = tmp_path / f"model.{kind}"
    run("aim-export", "--weights", folder, "--format", kind, "--out", path, cwd=tmp_path)
    card = read_json(tmp_path / f"model.{kind}.json")
    assert card["largest_difference_to_pytorch"] <= 1e-4
    images = torch.rand(7, 3, 128, 64)
    features = run_exported(path, {"images": images})
    with torch.inference_mode():
        expected = load_network(folder).inference_model()(images).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_weights_card_names_data_and_results(finished):
    card = read_weights(finished[0], method="aim").card
    assert card["dataset"] == "ltcc"
    assert card["synthetic"] is True
    assert len(card["fingerprint"]) == 16
    assert "ltcc/cloth_changing" in card["results"]


@pytest.mark.parametrize("name", sorted({*SYNTHETIC_LAYOUTS} & {*DATASETS} - {"ltcc"}))
def test_other_data_sets(name, tmp_path, small):
    args = ("--data", f"synthetic:{name}", "--data.synthetic-size", "tiny", *small)
    run("aim-train", *args, "--epochs", "1", "--out", "run", cwd=tmp_path)
    record = read_json(tmp_path / "run/results.json")
    assert record["dataset"] == name
    assert all(protocol.startswith(f"{name}/") for protocol in record["results"])


@pytest.mark.parametrize("name", ["aim-train", "aim-eval", "aim-embed", "aim-export"])
def test_help_imports_no_torch(name, tmp_path):
    imported = modules_of_help(name, cwd=tmp_path)
    assert "reid_aim.config" in imported
    assert not {"torch", "torchvision"} & imported


@pytest.mark.parametrize("args", [("aim-train", "--help"), ("aim-eval",)])
def test_a_core_that_is_too_new_is_refused_before_anything_else(args, tmp_path):
    newer = tmp_path / "site/reid_core-0.9.0.dist-info"
    newer.mkdir(parents=True)
    text = "Metadata-Version: 2.4\nName: reid-core\nVersion: 0.9.0\n"
    (newer / "METADATA").write_text(text, encoding="utf-8")
    done = run(*args, cwd=tmp_path, env={"PYTHONPATH": str(newer.parent)}, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{args[0]}: error: reid-aim ")
    assert "but reid-core 0.9.0 is installed" in done.stderr
    assert done.stderr.count("\n") == 1


def test_official_flags_are_understood(ltcc, tmp_path, small):
    args = ("--root", ltcc, "--dataset", "ltcc", *small, "--epochs", "1")
    args += ("--k_cal", "0.5", "--k_kl=2", "--set", "LOSS.PAIR_LOSS_WEIGHT=1", "--output", "run")
    run("aim-train", *args, cwd=tmp_path)
    config = read_json(tmp_path / "run/config.json")
    assert config["loss"]["k_cal"] == 0.5
    assert config["loss"]["k_kl"] == 2.0
    assert config["loss"]["pair_weight"] == 1.0


def test_paths_with_spaces_accents_and_misleading_names(ltcc, tmp_path, small):
    import shutil

    root = tmp_path / "my_code 001_1_c4_x" / "données"
    shutil.copytree(ltcc, root / "LTCC_ReID")
    args = ("--data", root, *small, "--epochs", "1", "--out", "a run")
    run("aim-train", *args, cwd=tmp_path)
    record = read_json(tmp_path / "a run/results.json")
    assert record["fingerprint"]
    assert record["results"]["ltcc/cloth_changing"]["num_valid"] > 0
