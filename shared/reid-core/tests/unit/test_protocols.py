"""Protocols: the table, their words, names, and what splits and labels allow."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

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
    describe,
    get_protocol,
    protocols_for,
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
    for dataset in {protocol.dataset for protocol in PROTOCOLS.values()}:
        protocols = protocols_for(dataset)
        assert len({protocol.definition for protocol in protocols}) == len(protocols)
    for name, protocol in PROTOCOLS.items():
        text = protocol.definition
        assert protocol.name == name
        assert f"`{protocol.query}`" in text
        assert f"`{protocol.gallery}`" in text
        assert MATCH_RULES[protocol.match].text in text
        assert ("10 draws" in text or "10 such lists" in text) == (protocol.trials == 10)
        assert ("distinct" in text or "counts identities" in text) == (protocol.cmc == "identity")
        assert ("is junk" in text or "are junk" in text) == MATCH_RULES[protocol.match].makes_junk
        # A reader can check it in ten lines.
        assert len(textwrap.wrap(text, 100)) <= 10, name
        for cameras in (protocol.query_cameras, protocol.gallery_cameras):
            if cameras is not None:
                assert "camera 1 has camid 0" in text
                assert str(cameras[-1] + 1) in text


def test_every_published_data_set_is_cited():
    assert all(protocol.citation for protocol in PROTOCOLS.values() if protocol.dataset != "custom")


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("last/standard", ("pid",)),
        ("market1501/standard", ("pid", "camid")),
        ("ltcc/cloth_changing", ("pid", "camid", "clothes_id")),
        ("sysu/indoor_search", ("pid", "camid")),
        ("regdb/thermal_to_visible", ("pid", "modality")),
        ("llcm/vis2ir_readme", ("pid", "camid", "modality")),
        ("celeb/standard", ("pid",)),
        ("celeb/official_cameras", ("pid",)),
        ("celeb_light/official_cameras", ("pid", "camid")),
        ("custom/any_camera", ("pid",)),
    ],
)
def test_labels_that_are_needed(name, columns):
    assert PROTOCOLS[name].columns == columns


def test_description():
    text = describe(PROTOCOLS["sysu/all_search_multi_shot_official"], width=80)
    lines = text.splitlines()
    assert lines[0] == "sysu/all_search_multi_shot_official  (only when asked for)"
    assert all(len(line) <= 80 for line in lines)
    assert "Needs: splits test; labels pid, camid; the file rand_perm_cam.mat." in text
    assert "Cite: Wu et al., RGB-Infrared Cross-Modality" in text
    assert "only when asked for" not in describe(PROTOCOLS["ltcc/standard"])
    assert "Cite" not in describe(PROTOCOLS["custom/standard"])


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
    assert splits_of(protocols_for("sysu")) == ("test",)


def test_splits_of_separate_lists_are_those_at_hand():
    protocols = protocols_for("regdb")
    assert splits_of(protocols) == tuple(f"test_{trial}" for trial in range(1, 11))
    assert splits_of(protocols, {"train", "test_3", "test_10"}) == ("test_3", "test_10")
    # Of other protocols all are asked for, so that the one that is missing is named.
    assert splits_of(protocols_for("last"), {"query"})[:2] == ("query", "gallery")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: get_protocol("ltcc/clothchanging"),
            r"no protocol is called 'ltcc/clothchanging'\. Did you mean ltcc/cloth_changing\? "
            r"Accepted: ltcc/standard, ltcc/cloth_changing",
        ),
        (lambda: get_protocol("standrad", "prcc"), "no protocol is called 'standrad'"),
        (
            lambda: get_protocol("all_search", "llcm"),
            r"called 'all_search'\. Accepted: llcm/ir2vis, llcm/vis2ir, llcm/vis2ir_readme$",
        ),
        (lambda: get_protocol("qqq"), r"no protocol is called 'qqq'\. Accepted"),
        (
            lambda: protocols_for("lttc"),
            r"no protocols for the data set 'lttc'\. Did you mean ltcc\? Data sets: celeb, celeb_l",
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
        (
            images((1, 0, 0)),
            [],
            "ltcc/standard: no image of query has a match in gallery; all results will be 0. Check "
            "the camera labels",
        ),
        (images((1, 0, 0), (1, 1, 0), (-1, 5, 5)), ["1 of 3 images of gallery have the ident"], ""),
    ],
)
def test_notes(gallery, notes, warning):
    found = applicable(PROTOCOLS["ltcc/standard"], {"query": QUERY, "gallery": gallery})
    assert found.ok
    assert len(found.notes) == len(notes)
    assert all(part in note for note, part in zip(found.notes, notes, strict=True))
    assert found.warning == warning


@pytest.mark.parametrize(
    ("name", "splits", "problem"),
    [
        (
            "market1501/standard",
            {"query": Labels(pids=[1]), "gallery": Labels(pids=[1, 2])},
            "market1501/standard compares cameras, but 1 of 1 images of query and 2 of 2 images of "
            "gallery have no camera label (camid); without cameras only custom/any_camera can be "
            "computed.",
        ),
        (
            "market1501/standard",
            {
                "query": Labels(pids=[1], camids=[0]),
                "gallery": Labels(pids=[1, 2, -1], camids=[3, -1, -1]),
            },
            "market1501/standard compares cameras, but 1 of 3 images of gallery have no camera "
            "label (camid); without cameras only custom/any_camera can be computed.",
        ),
        (
            "ltcc/same_clothes",
            {
                "query": Labels(pids=[1], camids=[0]),
                "gallery": Labels(pids=[1], camids=[1], clothes_ids=[4]),
            },
            "ltcc/same_clothes compares outfits, but 1 of 1 images of query have no outfit label "
            "(clothes_id); without outfits only ltcc/standard can be computed.",
        ),
        (
            "llcm/ir2vis",
            {"test": Labels(pids=[1, 1], camids=[0, 1])},
            "llcm/ir2vis tells visible from infrared images, but 2 of 2 images of test have no "
            "modality; without it no protocol of llcm can be computed.",
        ),
        (
            "llcm/ir2vis",
            {"test": Labels(pids=[1, 1], camids=[0, 1], modalities=["visible", "visible"])},
            "llcm/ir2vis cannot be computed: there is no infrared image of `test`.",
        ),
        (
            "sysu/indoor_search",
            {"test": Labels(pids=[1, 1], camids=[2, 3])},
            "sysu/indoor_search cannot be computed: there is no image of `test` from cameras 1 and "
            "2.",
        ),
        (
            "sysu/all_search",
            {"test": Labels(pids=[1, 2], camids=[2, 3])},
            "sysu/all_search cannot be computed: no identity of the queries occurs in the gallery; "
            "check that both number identities alike.",
        ),
        (
            "regdb/visible_to_thermal",
            {"test": QUERY},
            "regdb/visible_to_thermal needs at least one of the splits 'test_1' to 'test_10'; none "
            "is there (splits present: test).",
        ),
        (
            "regdb/visible_to_thermal",
            {"test_2": []},
            "regdb/visible_to_thermal needs the split 'test_2', which is empty.",
        ),
        (
            "custom/any_camera",
            {"query": Labels(pids=[-1, -1]), "gallery": Labels(pids=[1])},
            "custom/any_camera cannot be computed: there is no image of `query`.",
        ),
    ],
)
def test_problems(name, splits, problem):
    assert applicable(PROTOCOLS[name], splits).problem == problem


def test_labels_that_are_not_needed_may_be_missing():
    splits = {"query": Labels(pids=[1]), "gallery": Labels(pids=[1, 2])}
    for name in ("celeb/standard", "celeb/official_cameras", "custom/any_camera", "last/standard"):
        assert applicable(PROTOCOLS[name], splits).ok


def test_lists_that_are_not_there_are_told():
    labels = Labels(pids=[1, 1], modalities=["visible", "infrared"])
    splits = {"test_1": labels, "test_4": labels}
    found = applicable(PROTOCOLS["regdb/visible_to_thermal"], splits)
    assert found.ok
    assert found.notes == (
        "regdb/visible_to_thermal: evaluated on the lists that are there, of 10: 1, 4",
    )


def test_queries_in_their_own_gallery_are_told():
    found = applicable(PROTOCOLS["custom/any_camera"], {"query": QUERY, "gallery": QUERY[:1]})
    assert found.warning.startswith("custom/any_camera: 1 queries are in the gallery as well")
    assert not applicable(
        PROTOCOLS["custom/standard"], {"query": QUERY, "gallery": GALLERY}
    ).warning


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"pids": [1, 2], "camids": [0]}, "differ in length: pids 2, camids 1"),
        ({"pids": [1, 2], "modalities": ["visible"]}, "differ in length: .*modalities 1"),
        ({"pids": [0.5]}, "pids must be a list of integers, not float64"),
        ({"pids": [1], "camids": ["a"]}, "camids must be a list of integers"),
        (
            {"pids": [1, 2], "modalities": ["visible", "ir"]},
            r"must be a list of visible or infrared \(empty where unknown\), not 'ir'",
        ),
        ({"pids": [1], "modalities": [["visible"]]}, r"not of shape \(1, 1\)"),
    ],
)
def test_labels_that_are_wrong(labels, message):
    with pytest.raises(ProtocolError, match=message):
        Labels(**labels)


def test_labels_of_samples():
    samples = [Sample(Path("a.jpg"), 3, 1, modality="infrared"), Sample(Path("b.jpg"), 4, 0, 7)]
    labels = Labels.of(samples)
    assert Labels.of(labels) is labels
    assert labels.modalities.tolist() == ["infrared", "visible"]
    assert labels.take([1]).modalities.tolist() == ["visible"]
    assert labels.clothes_ids.tolist() == [-1, 7]
    bare = Labels(pids=[5])
    assert (bare.camids.tolist(), bare.clothes_ids.tolist()) == ([-1], [-1])
    assert bare.modalities.tolist() == [""]


@pytest.mark.parametrize("names", [(), ("standard",)])
def test_protocols_without_any_match_are_announced(caplog, names):
    chosen = choose_protocols(dataset(query=QUERY, gallery=images((1, 0, 0))), names)
    assert "ltcc/standard" in {protocol.name for protocol in chosen}
    assert "ltcc/standard: no image of query has a match" in caplog.text


def test_protocols_import_no_torch():
    code = (
        "import sys; from reid_core.evaluation import PROTOCOLS, choose_protocols;"
        "import reid_core.evaluation.protocols.lookup; assert 'torch' not in sys.modules;"
        "from reid_core.evaluation import Ranking; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_commands_parse_without_torch_and_numpy():
    code = (
        "import sys, reid_core.commands.entry, reid_core.evaluation.cli;"
        "assert not {'torch', 'numpy', 'scipy', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_of_the_package():
    import reid_core.evaluation

    assert reid_core.evaluation.Ranking is Ranking
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        reid_core.evaluation.nothing  # noqa: B018
    assert all(hasattr(reid_core.evaluation, name) for name in reid_core.evaluation.__all__)
