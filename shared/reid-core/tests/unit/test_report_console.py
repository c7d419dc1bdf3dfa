import io
from dataclasses import replace

import pytest

from reid_core.report import ResultRow, print_results, results_table

CLOTHES = "ltcc/cloth_changing"
ROWS = [
    ResultRow(
        protocol=CLOTHES,
        stage="trained",
        rank1=0.3384,
        rank5=1.0,
        rank10=1.0,
        mean_ap=0.1585,
        mean_inp=0.0004,
        chance_rank1=0.013,
        num_valid=11392,
        num_queries=11493,
    ),
    ResultRow(protocol=CLOTHES, stage="published", rank1=0.406, source="[A] 2023"),
]


def printed(rows, **options):
    stream = io.StringIO()
    print_results(rows, file=stream, **options)
    return stream.getvalue()


def test_plain_table_holds_every_figure_within_100_columns():
    text = printed(ROWS, synthetic=False)
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    rows = [line.split() for line in text.splitlines()]
    figures = ["33.8", "100.0", "100.0", "15.9", "0.0", "1.3", "11,392/11,493"]
    assert [CLOTHES, "Trained", *figures] in rows
    assert [CLOTHES, "Published[1]", "40.6", "-", "-", "-", "-", "-", "-"] in rows
    assert text.count("[1] [A] 2023; published figures") == 1
    assert "SYNTHETIC" not in text


@pytest.mark.parametrize("title", ["Results", "before [training]"])
def test_title_says_synthetic(title):
    text = printed(ROWS, synthetic=True, title=title)
    first = text.splitlines()[0]
    assert first.startswith(f"{title} (SYNTHETIC DATA: says nothing about real data")
    assert "published figures; real data, not comparable" in text


def test_long_protocol_names_are_not_broken():
    name = "prcc/cloth_changing_single_shot_of_trial_10"
    rows = [ResultRow(protocol=name, stage="published", source=f"{author} 2023") for author in "AB"]
    text = printed([*ROWS, *rows], synthetic=False)
    assert [line.split()[:3] for line in text.splitlines() if name in line] == [
        [name, "Published[2]", "-"],
        [name, "Published[3]", "-"],
    ]


def test_table_without_rows_has_a_title():
    table = results_table([], synthetic=True)
    assert "SYNTHETIC" in str(table.title)
    assert table.row_count == 0


def test_variants_and_intervals_have_rows_of_their_own():
    plain = replace(
        ROWS[0],
        intervals={"rank1": (0.2, 0.4567), "mAP": (0.1, 0.2), "mINP": (0.0, 0.001)},
        interval_label="95 % interval",
    )
    text = printed([plain, replace(ROWS[0], variant="re-ranking"), ROWS[1]], synthetic=False)
    rows = [line.split() for line in text.splitlines()]
    below = rows[rows.index(next(row for row in rows if row[:2] == [CLOTHES, "Trained"])) + 1]
    assert below == ["95", "%", "interval", "20.0-45.7", "10.0-20.0", "0.0-0.1"]
    assert [row[1:5] for row in rows if "re-ranking" in row] == [
        ["Trained", "+", "re-ranking", "33.8"]
    ]


def test_spread_over_trials_and_notes():
    note = "101 of 11,493 queries have no match in the gallery"
    figures = {"rank1": 0.0123, "rank5": 0.0, "rank10": 0.0, "mAP": 0.2, "mINP": 0.001}
    row = replace(ROWS[0], num_trials=10, deviations=figures, notes=(note,), num_valid=11392.25)
    pool = replace(row, variant="pool feature")
    text = printed([row, pool], synthetic=False)
    assert max(map(len, text.splitlines())) <= 100
    rows = [line.split() for line in text.splitlines()]
    below = [row for row in rows if row[:1] == ["std"]]
    assert below == [["std", "of", "10", "trials", "1.2", "0.0", "0.0", "20.0", "0.1"]] * 2
    assert " ".join(text.split()).count(f"{CLOTHES}: {note}.") == 1
    assert "11,392.2/11,493" in text
    assert "Trained, pool feature" in text


def test_a_group_of_parts_is_no_addition_and_has_notes_of_its_own():
    lacking = "3 of 9 query images have no face crop; "
    whole, face = lacking + "they are compared by their other parts", lacking + "their score is 0"
    found = "2 of 9 queries have no match"
    streams = [
        replace(ROWS[0], stage="untrained", notes=(whole, found)),
        replace(ROWS[0], notes=(whole, found)),
        replace(ROWS[0], variant="face stream", notes=(face, found)),
        replace(ROWS[0], variant="body stream", notes=(found,)),
        replace(ROWS[0], variant="re-ranking", notes=(whole, found)),
    ]
    text = " ".join(printed([*streams, ROWS[1]], synthetic=False).split())
    assert "Trained, face stream 33.8" in text
    assert "Trained, body stream 33.8" in text
    assert "Trained + re-ranking 33.8" in text
    notes = (
        f"{CLOTHES} (Untrained; Trained; Trained + re-ranking): {whole}.",
        f"{CLOTHES}: {found}.",
        f"{CLOTHES} (Trained, face stream): {face}.",
    )
    assert text.endswith(" ".join(notes))
    assert text.count(lacking) == 2
