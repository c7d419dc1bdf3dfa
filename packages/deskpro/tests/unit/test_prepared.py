"""Which images are trained on, and what that does to the labels."""

from dataclasses import replace
from pathlib import Path

import pytest

from reid_core.commands.arguments import EvaluateArguments
from reid_core.config import DataConfig
from reid_core.data.companions import COMPANION_KINDS
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.errors import DatasetError
from reid_deskpro.prepared import (
    complete_arguments,
    describe_prepared,
    identities_of,
    keep_prepared,
    with_synthetic_companions,
)


def sample(number, pid, kinds=COMPANION_KINDS, identity=None, folder=Path("P")):
    extra = {kind: folder / kind / f"{number}.png" for kind in kinds}
    extra |= {} if identity is None else {"identity": identity}
    return Sample(path=Path(f"train/{number}.jpg"), pid=pid, camid=0, extra=extra)


def dataset(*train, **splits):
    return ReIDDataset(name="celeb", root=Path("R"), splits={"train": train, **splits})


# The reader numbers people as whole numbers; DeskPro by the text of the identity.
WHOLE = dataset(
    sample(0, 0, identity="1"),
    sample(1, 1, identity="2"),
    sample(2, 2, identity="9", kinds=("lr_face", "mask")),
    sample(3, 3, identity="10"),
    sample(4, 3, identity="10", kinds=("mask",)),
    sample(5, 3, identity="10"),
)


def test_images_without_a_companion_are_left_out_and_people_are_sorted_as_text():
    kept = keep_prepared(WHOLE)
    assert [(item.path.stem, item.pid) for item in kept.train] == [
        *(("0", 0), ("1", 2), ("3", 1), ("5", 1)),
    ]
    assert identities_of(kept) == ("1", "10", "2")
    assert kept.num_pids == 3


def test_what_is_prepared_passes_unchanged():
    kept = keep_prepared(WHOLE)
    assert keep_prepared(kept) == kept


def test_without_texts_the_numbers_count():
    whole = dataset(*(sample(number, number) for number in range(12)))
    assert [item.pid for item in keep_prepared(whole).train] == list(range(12))
    assert identities_of(whole)[:3] == ("00", "01", "02")
    gap = dataset(*(item for item in whole.train if item.pid != 4))
    assert [item.pid for item in keep_prepared(gap).train] == list(range(11))
    assert identities_of(keep_prepared(gap))[4] == "05", "who was left out is still missing"


def test_test_images_are_not_touched():
    query = (sample(9, 77, kinds=()),)
    kept = keep_prepared(replace(WHOLE, splits={**WHOLE.splits, "query": query}))
    assert kept.splits["query"] == query


def test_says_what_was_kept():
    text = describe_prepared(WHOLE, keep_prepared(WHOLE))
    assert "4 of 6 training images" in text
    assert "3 of 4 people" in text
    assert "face crop, restored face and mask" in text


def test_nothing_prepared():
    bare = dataset(sample(0, 0, kinds=()), sample(1, 1, kinds=("mask",)))
    with pytest.raises(DatasetError, match=r"none has all .*face crop: 0, .*mask: 1.*prepare"):
        keep_prepared(bare)


def test_one_person_left():
    with pytest.raises(DatasetError, match="1 identity"):
        keep_prepared(dataset(sample(0, 0), sample(1, 1, kinds=())))


@pytest.fixture
def made(monkeypatch):
    """Return the calls of the preparation, which is not done."""
    calls = []

    def ensure(layout, *, size, progress):
        calls.append((layout, size))
        return Path("cache") / layout

    import reid_deskpro.prepare

    monkeypatch.setattr(reid_deskpro.prepare, "ensure_prepared", ensure)
    return calls


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (DataConfig(root="synthetic", dataset="prcc"), Path("cache/prcc")),
        (DataConfig(root="synthetic:celeb", dataset="celeb"), Path("cache/celeb")),
        (DataConfig(root="synthetic", dataset="prcc", prepared=Path("P")), Path("P")),
        (DataConfig(root="R", dataset="prcc"), None),
    ],
)
def test_synthetic_data_are_prepared(data, expected, made):
    found = with_synthetic_companions(data, lambda what, done, total: None)
    assert found == replace(data, prepared=expected)
    assert len(made) == (expected is not None and expected.parts[0] == "cache")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"data": "synthetic", "dataset": "prcc"}, Path("cache/prcc")),
        ({"data": "synthetic:celeb"}, Path("cache/celeb")),
        ({"data": "synthetic:celeb", "prepared": Path("P")}, Path("P")),
        ({"data": "R"}, None),
    ],
)
def test_an_evaluation_on_synthetic_data_finds_its_companions(args, expected, made):
    arguments = EvaluateArguments(weights=Path("W"), synthetic_size="tiny", **args)
    found = complete_arguments(arguments)
    assert found == replace(arguments, prepared=expected)
    assert [size for _, size in made] == ["tiny"] * len(made)
