"""The best epochs of both streams, and what is said of them."""

from types import SimpleNamespace

import pytest
import torch

from reid_core.engine.weights import Weights
from reid_deskpro.best import BestStreams
from reid_deskpro.results import compare_streams


def result(name, mean_ap):
    figures = {"mAP": mean_ap, "rank1": mean_ap / 2}
    return SimpleNamespace(protocol=SimpleNamespace(name=name), summary=lambda: figures)


def evaluation(face, body, together, *, names=("prcc/same_clothes", "prcc/cloth_changing")):
    """Figures of the last protocol; the first one's are the other way round."""

    def both(value):
        return tuple(
            result(name, value if number else 1 - value) for number, name in enumerate(names)
        )

    results = both(together)
    return SimpleNamespace(
        results=results,
        variants={"face stream": both(face), "body stream": both(body)},
        summary=lambda: {item.protocol.name: item.summary() for item in results},
    )


def weights(value):
    state = {f"{name}.w": torch.tensor([value]) for name in ("lr_face_net", "nocloth_net")}
    return Weights(state, {"method": "deskpro", "version": "0"})


@pytest.fixture
def run(tmp_path):
    from contextlib import nullcontext

    return SimpleNamespace(folder=tmp_path, is_main=True, main_first=nullcontext)


def test_streams_are_kept_from_their_own_best_epochs(run):
    best = BestStreams(run, ("face", "body"))
    for epoch, (face, body) in enumerate([(0.3, 0.5), (0.4, 0.2), (0.4, 0.1)]):
        best.offer(evaluation(face, body, 0.0), epoch, weights(float(epoch)))
    assert best.state_dict()["streams"] == {
        "face": {"epoch": 1, "mAP": 0.4},
        "body": {"epoch": 0, "mAP": 0.5},
    }
    state = best.weights()
    assert {name: value.item() for name, value in state.items()} == {
        "lr_face_net.w": 1.0,
        "nocloth_net.w": 0.0,
    }
    assert not any(best.is_of(epoch) for epoch in range(3))


def test_the_last_epoch_may_be_the_best_of_both(run):
    best = BestStreams(run, ("face", "body"))
    best.offer(evaluation(0.3, 0.3, 0.3), 0, weights(0.0))
    best.offer(evaluation(0.5, 0.5, 0.5), 1, weights(1.0))
    assert best.is_of(1)


def test_one_stream_is_judged_by_the_only_results(run):
    best = BestStreams(run, ("body",))
    found = evaluation(0.0, 0.0, 0.6)
    found.variants = {}
    best.offer(found, 4, weights(1.0))
    assert best.state_dict()["streams"] == {"body": {"epoch": 4, "mAP": 0.6}}
    assert set(best.weights()) == {"nocloth_net.w"}


def test_a_stopped_run_goes_on(run):
    best = BestStreams(run, ("face", "body"))
    best.offer(evaluation(0.3, 0.5, 0.4), 0, weights(0.0))
    again = BestStreams(run, ("face", "body"))
    again.load_state_dict(best.state_dict())
    again.offer(evaluation(0.2, 0.6, 0.4), 1, weights(1.0))
    assert again.state_dict()["streams"] == {
        "face": {"epoch": 0, "mAP": 0.3},
        "body": {"epoch": 1, "mAP": 0.6},
    }


def test_other_processes_write_nothing(run):
    run.is_main = False
    BestStreams(run, ("face",)).offer(evaluation(0.3, 0.5, 0.4), 0, weights(0.0))
    assert not list(run.folder.iterdir())


def test_what_is_said(run):
    best = BestStreams(run, ("face", "body"))
    best.offer(evaluation(0.3, 0.5, 0.4), 2, weights(0.0))
    best.note(evaluation(0.3, 0.5, 0.4, names=("a", "b")))
    told = best.describe(selected=False)
    assert told["weights"] == "last epoch"
    assert "b rank-1 20.0%, mAP 40.0%" in told["best on the TEST set"]
    assert "face epoch 3, body epoch 3" in told["best on the TEST set"]
    assert "for comparison only" in told["best on the TEST set"]
    assert best.describe(selected=True) == {
        "weights": "best on the TEST set (face epoch 3, body epoch 3)"
    }


@pytest.mark.parametrize(
    ("together", "verdict"),
    [
        (0.7, "above either stream alone"),
        (0.4, "NOT above body alone"),
        (0.5, "NOT above body alone"),
        (0.1, "NOT above face and body alone"),
    ],
)
def test_both_streams_are_compared_with_either(together, verdict):
    found = compare_streams(evaluation(0.3, 0.5, together))["prcc/cloth_changing"]
    assert found.endswith(verdict)
    assert f"mAP {together:.1%} together (face 30.0%, body 50.0%)" in found


def test_one_stream_is_compared_with_nothing():
    found = evaluation(0.3, 0.5, 0.4)
    found.variants = {"re-ranking": found.results}
    assert compare_streams(found) == {}
