import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_core.data.sample import Sample
from reid_core.errors import OutputError
from reid_core.report import (
    APDistribution,
    Citation,
    CmcCurve,
    RankedEntry,
    RankedList,
    Report,
    ResultRow,
    read_metrics,
    render_report,
    write_report,
)
from reid_core.report.thumbnails import MAX_SIZE, make_thumbnail

STANDARD, CLOTHES = "ltcc/standard", "ltcc/cloth_changing"
VOID = {"br", "img", "link", "meta"}
HOSTILE = "<script>alert('x')</script>\"&'><img src=http://evil.test/a.png onerror=a()>"


class Page(HTMLParser):
    """Checks that tags balance and keeps what the tests ask for."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text, self.ids = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def find(self, tag, **attributes):
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            attrs
            for name, attrs in self.tags
            if name == tag and all(attrs.get(key) == value for key, value in wanted.items())
        ]

    @property
    def words(self):
        return " ".join("".join(self.text).split())


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images of Zo\u00eb"
    folder.mkdir()
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 255, (128, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def report(images):
    def sample(index, **labels):
        return Sample(images / f"{index}.png", **{"pid": index, "camid": 1, **labels})

    entries = [
        RankedEntry(sample=sample(1, clothes_id=7), status="junk", score=0.91),
        RankedEntry(sample=sample(2), status="wrong", score=0.875),
        RankedEntry(sample=sample(3, modality="infrared"), status="right", score=-0.0001),
        RankedEntry(sample=sample(9), status="wrong", score=-0.5),
    ]
    ranked = [
        RankedList(
            protocol=protocol,
            query=sample(0, clothes_id=3),
            entries=entries,
            average_precision=0.0625,
            reason=reason,
            first_hit_rank=2,
        )
        for protocol in (STANDARD, CLOTHES)
        for reason in ("hardest", "random")
    ]
    rows = [
        ResultRow(protocol=CLOTHES, stage="untrained", rank1=0.031, chance_rank1=0.013),
        ResultRow(
            protocol=CLOTHES,
            stage="trained",
            rank1=0.3384,
            rank5=0.5,
            rank10=0.75,
            mean_ap=0.1585,
            mean_inp=0.031,
            chance_rank1=0.013,
            num_valid=1392,
            num_queries=1493,
        ),
        ResultRow(
            protocol=CLOTHES, stage="published", rank1=0.406, mean_ap=0.191, source="A, 2023"
        ),
    ]
    losses = (2.5, 1.25, 0.5)
    metrics = [
        {"kind": "train", "epoch": epoch, "loss_id": loss, "lr": {"model": 0.1}, "acc_id": None}
        for epoch, loss in enumerate(losses)
    ]
    metrics += [
        {"kind": "eval", "epoch": epoch, "results": {CLOTHES: {"rank1": rank1, "mAP": 0.1}}}
        for epoch, rank1 in ((-1, 0.03), (2, 0.3384))
    ]
    return Report(
        title="run 7",
        method="AIM",
        dataset="LTCC",
        synthetic=True,
        subtitle="a line",
        facts={"Date": "2026-11-20", "Device": "CPU"},
        rows=rows,
        metrics=metrics,
        curves=[CmcCurve(protocol=CLOTHES, stage="trained", values=np.linspace(0.3384, 1, 80))],
        distributions=[
            APDistribution(protocol=CLOTHES, stage="untrained", values=np.array([0.0, 0.01])),
            APDistribution(protocol=CLOTHES, stage="trained", values=np.array([0.05, 0.95, 1.0])),
        ],
        ranked=ranked,
        config={"optim": {"lr": 0.1, "steps": [20, 40]}, "run": {"out": Path("runs/7"), "tag": {}}},
        command="aim-train --data synthetic --preset demo",
        definitions={CLOTHES: "same clothes are junk"},
        citations=[Citation(text="A. Uthor. A paper.", url="https://example.org/?a=1&b=2")],
    )


def test_page_is_well_formed_and_complete(report):
    page = Page(render_report(report))
    for text in (
        "AIM on LTCC",
        "2026-11-20",
        "33.8",
        "1,392 / 1,493",
        "published figures: A, 2023",
        "AP 6.3 %, first right match at rank 2",
        "clothes 7",
        "infrared",
        "optim.steps",
        "[20, 40]",
        "runs/7",
        "aim-train --data synthetic --preset demo",
        "same clothes are junk",
        "A. Uthor. A paper.",
    ):
        assert text in page.words, text
    assert len(page.ids) == len(set(page.ids))


def test_sections_come_in_order_and_navigation_reaches_them(report):
    page = Page(render_report(report))
    anchors = [attrs["aria-labelledby"] for attrs in page.find("section")]
    assert anchors == [
        "results",
        "training",
        "evaluation",
        "ranked",
        "run",
        "protocols",
        "citations",
    ]
    targets = {attrs["href"][1:] for attrs in page.find("a") if attrs["href"].startswith("#")}
    assert set(anchors) <= targets
    assert targets - set(page.ids) == {"protocol-ltcc-standard"}  # has no definition here


def test_page_loads_nothing_from_outside(report):
    text = render_report(report)
    page = Page(text)
    for tag, attrs in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form"}
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            value = attrs.get(name, "#")
            assert value.startswith(("#", "data:")) or (tag, name) == ("a", "href"), (tag, value)
        assert not any(name.startswith("on") for name in attrs)
    assert "url(" not in text
    assert "@import" not in text
    policy = page.find("meta", http_equiv="Content-Security-Policy")[0]["content"]
    assert "default-src 'none'" in policy


def test_same_input_gives_same_bytes(report, tmp_path):
    first = write_report(report, tmp_path / "a" / "report.html").read_bytes()
    second = write_report(dataclasses.replace(report), tmp_path / "b.html").read_bytes()
    assert first == second
    assert b"\r" not in first


def test_synthetic_data_is_marked_everywhere(report):
    page = Page(render_report(report))
    assert "SYNTHETIC DATA The images were generated: these numbers say nothing" in page.words
    assert "A, 2023; real data, not comparable" in page.words
    assert "(synthetic data)" in page.words  # in the window's title
    assert len(page.find("span", class_="pill synthetic")) == 5
    assert not page.find("i", class_="published", style="left:40.6%")

    real = Page(render_report(dataclasses.replace(report, synthetic=False)))
    assert "synthetic" not in real.words.lower().replace("--data synthetic", "")
    assert "not comparable" not in real.words
    assert real.find("i", class_="published", style="left:40.6%")


def test_hostile_text_stays_text():
    sample = Sample(Path(f"{HOSTILE}.jpg".replace("/", "_")), pid=1, camid=1)
    entry = RankedEntry(sample=sample, status="wrong", score=0.5)
    hostile = Report(
        title=HOSTILE,
        method=HOSTILE,
        dataset=HOSTILE,
        synthetic=True,
        subtitle=HOSTILE,
        facts={HOSTILE: HOSTILE},
        rows=[ResultRow(protocol=HOSTILE, stage="published", rank1=0.1, source=HOSTILE)],
        metrics=[
            {"kind": "train", "epoch": 1, HOSTILE: 1.0},
            {"kind": "eval", "epoch": 1, "results": {HOSTILE: {"rank1": 0.5}}},
        ],
        curves=[CmcCurve(protocol=HOSTILE, stage="trained", values=np.array([0.5, 1]))],
        distributions=[APDistribution(protocol=HOSTILE, stage="trained", values=np.array([0.5]))],
        ranked=[
            RankedList(
                protocol=HOSTILE,
                query=sample,
                entries=[entry],
                average_precision=0.5,
                reason="random",
            )
        ],
        config={HOSTILE: HOSTILE},
        command=HOSTILE,
        definitions={HOSTILE: HOSTILE},
        citations=[Citation(text=HOSTILE, url=f"javascript:{HOSTILE}"), Citation(text="a", url="")],
    )
    page = Page(render_report(hostile))
    assert {"script", "img"}.isdisjoint(tag for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert page.words.count("alert('x')") > 10
    assert all(attrs["href"].startswith("#") for attrs in page.find("a"))
    assert len(page.ids) == len(set(page.ids))


def test_ranks_are_counted_without_junk(report):
    page = Page(render_report(report))
    spoken = [attrs["alt"] for attrs in page.find("img")][:4]
    assert spoken == [
        "Query: identity 0, camera 1, clothes 3, visible",
        "Junk, score 0.910: identity 1, camera 1, clothes 7, visible",
        "Rank 1, wrong, score 0.875: identity 2, camera 1, visible",
        "Rank 2, right, score 0.000: identity 3, camera 1, infrared",
    ]
    marks = [attrs["class"] for attrs in page.find("figure") if "tile" in attrs.get("class", "")]
    assert marks[:5] == ["tile query", "tile junk", "tile wrong", "tile right", "tile wrong"]


def test_modalities_are_tagged_where_there_are_two(report):
    page = Page(render_report(report))
    tags = [attrs["class"] for attrs in page.find("span") if "modality" in attrs.get("class", "")]
    assert tags[:4] == [
        f"modality {kind}" for kind in ("visible", "visible", "visible", "infrared")
    ]
    assert (
        "Below each image: similarity, identity, camera (counted from 0), clothes, modality."
        in page.words
    )
    first = report.ranked[0]
    alone = dataclasses.replace(first, entries=[*first.entries[:2], first.entries[3]])
    text = render_report(dataclasses.replace(report, ranked=[alone]))
    assert 'class="modality' not in text
    assert "camera (counted from 0), clothes." in Page(text).words


def test_first_group_of_each_protocol_is_open(report):
    page = Page(render_report(report))
    assert ["open" in attrs for attrs in page.find("details")] == [True, False, True, False, False]


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text", "folder"])
def test_unreadable_image_leaves_a_placeholder(report, images, damage):
    path = images / "1.png"
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"empty": b"", "truncated": data[: len(data) // 2], "text": b"x"}[damage])
    page = Page(render_report(report))
    text = "Junk, score 0.910: identity 1, camera 1, clothes 7, visible, image not readable"
    assert len(page.find("div", class_="missing", aria_label=text)) == 4
    assert len(page.find("div", class_="missing")) == 8  # image 9 was never there
    assert len(page.find("img")) == 12


@pytest.mark.parametrize(
    ("mode", "size"), [("RGB", (400, 900)), ("L", (900, 90)), ("RGBA", (3, 2)), ("I;16", (64, 128))]
)
def test_thumbnail_is_small_and_keeps_its_shape(tmp_path, mode, size):
    Image.new(mode, size).save(tmp_path / "a.png")
    thumbnail = make_thumbnail(tmp_path / "a.png")
    assert thumbnail is not None
    assert thumbnail.uri.startswith("data:image/jpeg;base64,/9j/")
    shown = (thumbnail.width, thumbnail.height)
    assert all(0 < have <= limit for have, limit in zip(shown, MAX_SIZE, strict=True))
    scale = min(1, *(limit / have for limit, have in zip(MAX_SIZE, size, strict=True)))
    assert shown == pytest.approx([side * scale for side in size], abs=1)


def test_thumbnail_of_noise_stays_within_the_size_that_bounds_a_page(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (448, 224, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    thumbnail = make_thumbnail(tmp_path / "a.png")
    assert thumbnail is not None
    assert len(thumbnail.uri) < 15_000  # 20 lists of 11 such images: 3.3 MB


def test_what_is_empty_is_left_out():
    page = Page(render_report(Report(title="t", method="m", dataset="d", synthetic=False, rows=[])))
    assert not page.find("section")
    assert not page.find("svg", class_="chart")


@pytest.mark.parametrize(
    "metrics",
    [
        [{}],
        [{"kind": "train"}],
        [{"kind": "train", "epoch": 0}],
        [{"kind": "train", "epoch": 0, "loss_id": float("nan"), "lr": None, "flag": True}],
        [{"kind": "train", "epoch": "x", "loss_id": 1.0}],
        [{"kind": "eval", "epoch": 1, "results": None}],
        [{"kind": "eval", "epoch": 1, "results": {CLOTHES: 3}}],
        [{"kind": "eval", "epoch": 1, "results": {CLOTHES: {"rank1": None}}}],
    ],
)
def test_metrics_without_a_number_to_draw(metrics):
    page = Page(
        render_report(
            Report(title="t", method="m", dataset="d", synthetic=False, rows=[], metrics=metrics)
        )
    )
    assert not page.find("svg", class_="chart")


def test_training_curves_count_finished_epochs(report):
    page = Page(render_report(report))
    labels = [attrs["aria-label"] for attrs in page.find("svg", class_="chart")]
    assert labels == [
        "loss_id: 2.5 at epoch 1, 0.5 at epoch 3",
        "lr/model: 0.1 at epoch 1, 0.1 at epoch 3",
        f"{CLOTHES}: rank-1 33.8 % at epoch 3, mAP 10.0 % at epoch 3",
        f"{CLOTHES}, cumulative matching characteristic: trained 33.8 % at rank 1",
        f"{CLOTHES}, share of queries by average precision: untrained mean 0.5 %, "
        "trained mean 66.7 %",
    ]


def test_protocols_without_a_valid_query_have_no_charts():
    nothing = np.full(5, np.nan)
    for values in (nothing, nothing[:0]):
        empty = Report(
            title="t",
            method="m",
            dataset="d",
            synthetic=False,
            rows=[],
            curves=[CmcCurve(protocol=CLOTHES, stage="trained", values=values)],
            distributions=[APDistribution(protocol=CLOTHES, stage="trained", values=values)],
        )
        assert not Page(render_report(empty)).find("svg", class_="chart")


def test_unknown_figures_are_dashes(report):
    rows = [ResultRow(protocol=CLOTHES, stage="evaluated", rank1=float("nan"), num_queries=5)]
    text = render_report(dataclasses.replace(report, rows=rows))
    assert text.count("<td>-</td>") == 6
    assert "<td>? / 5</td>" in text
    assert not re.search(r"\bnan\b", text)


@pytest.mark.parametrize("value", [33.8, -0.1, float("inf")])
def test_percentages_for_fractions_are_refused(value):
    with pytest.raises(ValueError, match=r"rank1=.* is not in \[0, 1\]; pass fractions"):
        ResultRow(protocol=CLOTHES, stage="trained", rank1=value)


def test_write_replaces_the_file_and_makes_its_folder(report, tmp_path):
    path = tmp_path / "new" / "folder" / "report.html"
    assert write_report(report, path) == path
    path.write_text("old")
    write_report(report, path)
    assert path.read_text(encoding="utf-8") == render_report(report)
    assert [item.name for item in path.parent.iterdir()] == ["report.html"]


def test_failed_write_leaves_the_old_file(report, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def refuse(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OutputError, match=r"report\.html: No space left on device"):
        write_report(report, path)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir() if item.is_file()] == ["report.html"]


def test_folder_in_the_way_is_an_output_error(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_report(report, tmp_path / "file" / "report.html")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OutputError, match=r"report\.html"):
        write_report(report, tmp_path / "report.html")


def test_read_metrics_keeps_what_is_whole(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    path.write_bytes(b'{"kind": "train", "epoch": 0}\n\n[1]\n{"kind": "train", "epo')
    assert read_metrics(path) == [{"kind": "train", "epoch": 0}]
    assert "2 line(s)" in caplog.text
    path.write_bytes(b"")
    assert read_metrics(path) == []


def test_variants_stand_beside_the_plain_result_and_do_not_replace_it(report):
    plain = ResultRow(
        protocol=CLOTHES,
        stage="evaluated",
        rank1=0.4,
        mean_ap=0.2,
        intervals={"rank1": (0.35, 0.45)},
        interval_label="95 % interval",
    )
    reranked = dataclasses.replace(plain, rank1=0.6, variant="re-ranking", intervals={})
    page = Page(render_report(dataclasses.replace(report, rows=[plain, reranked])))
    text = " ".join(" ".join(page.text).split())
    assert "40.0 % rank-1, evaluated" in text
    assert "with re-ranking 60.0 %" in text
    assert "Evaluated + re-ranking" in text
    assert "35.0-45.0" in text
    assert text.count("95 % interval") == 1
    strips = [attrs for attrs in page.find("div", class_="strip")]
    assert [attrs["aria-label"].count("%:") for attrs in strips] == [1]
    assert "60.0" not in strips[0]["aria-label"]


def test_means_over_trials_show_their_spread_and_queries_without_a_match(report):
    row = ResultRow(
        protocol=STANDARD,
        stage="evaluated",
        rank1=0.4,
        mean_ap=0.2,
        num_valid=2208,
        num_queries=3803,
        num_trials=10,
        deviations={"rank1": 0.0123, "mAP": 0.004},
        notes=("1,595 of 3,803 queries have no match",),
    )
    pool = dataclasses.replace(row, variant="pool feature", rank1=0.3)
    words = Page(render_report(dataclasses.replace(report, rows=[row, pool]))).words
    assert "40.0\u00b11.2" in words
    assert "20.0\u00b10.4" in words
    assert "standard deviation over the trials" in words
    assert words.count("mean of 10 trials") == 2
    assert "2,208 / 3,803" in words
    assert words.count(f"{STANDARD}: 1,595 of 3,803 queries have no match.") == 1
    assert "Evaluated, pool feature" in words
    assert "with pool feature 30.0 %" in words
    face = dataclasses.replace(row, variant="face stream", notes=(), rank1=0.35)
    words = Page(render_report(dataclasses.replace(report, rows=[row, face]))).words
    assert "Evaluated, face stream" in words
    assert "face stream 35.0 %" in words
    assert "with face stream" not in words
    assert f"{STANDARD} (Evaluated): 1,595 of 3,803 queries have no match." in words
