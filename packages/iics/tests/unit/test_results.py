"""Which published figures stand beside whose results."""

import pytest

from reid_iics.results import info_of, info_of_weights

MARKET = "market1501/standard"


@pytest.mark.parametrize(
    ("card", "figures", "words"),
    [
        ({"variant": "fixed", "rerank": True}, (0.729, 0.895), "fixed number of clusters"),
        ({"variant": "threshold", "rerank": True}, (0.739, 0.901), "threshold of distance"),
        ({"variant": "fixed", "rerank": False}, (0.721, 0.888), "no re-ranking"),
        ({"origin": "official IICS checkpoint"}, (0.729, 0.895), "fixed number of clusters"),
    ],
)
def test_the_card_chooses_the_published_row(card, figures, words):
    info = info_of_weights(card)
    found = info.published[MARKET]
    assert (found["mAP"], found["rank1"]) == figures
    assert words in info.source


def test_nothing_was_published_of_a_threshold_without_rerank():
    assert not info_of("threshold", rerank=False).published
