"""Losses on pairs of features against loops; anchors without partners; galleries of processes."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reid_core.losses import (
    PairGallery,
    batch_hard_triplet,
    batch_hard_triplet_euclidean,
    contrastive,
    gather_gallery,
    hardest_pairs,
    pairwise_circle,
    pairwise_cosface,
)

PIDS = [3, 3, 3, 7, 7, 1, 3, 1]


def draw(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(8, 5, generator=generator, dtype=torch.float64) * 3
    return values.to(dtype).requires_grad_()


def cosine(left, right):
    dot = sum(a * b for a, b in zip(left, right, strict=True))
    return dot / (math.hypot(*left) * math.hypot(*right))


def relations(features, pids):
    """Per anchor: cosines to positives (without itself) and to negatives."""
    rows = features.tolist()
    for i, anchor in enumerate(rows):
        others = [(cosine(anchor, row), pids[j]) for j, row in enumerate(rows) if j != i]
        yield (
            [c for c, pid in others if pid == pids[i]],
            [c for c, pid in others if pid != pids[i]],
        )


def log_sum_exp(values):
    return math.log(sum(math.exp(value) for value in values))


def loop_triplet(features, pids, margin):
    losses = [
        max((1 - min(positives)) - (1 - max(negatives)) + margin, 0)
        for positives, negatives in relations(features, pids)
    ]
    return sum(losses) / len(losses)


def loop_euclidean_triplet(features, pids, margin):
    rows, losses = features.tolist(), []
    for anchor, pid in zip(rows, pids, strict=True):
        same, other = (
            [
                math.dist(anchor, row)
                for row, own in zip(rows, pids, strict=True)
                if (own == pid) == is_same
            ]
            for is_same in (True, False)
        )
        if other:
            excess = max(same) - min(other)
            losses.append(
                math.log1p(math.exp(excess)) if margin is None else max(excess + margin, 0)
            )
    return sum(losses) / len(losses) if losses else 0.0


def loop_contrastive(features, pids, scale):
    losses = []
    for positives, negatives in relations(features, pids):
        outside = sum(math.exp(scale * c) for c in negatives)
        terms = [math.log(math.exp(scale * c) + outside) - scale * c for c in positives]
        losses.append(sum(terms) / len(terms))
    return sum(losses) / len(losses)


def loop_pairwise(features, pids, negative_term, positive_term):
    losses = []
    for positives, negatives in relations(features, pids):
        total = log_sum_exp(map(negative_term, negatives))
        total += log_sum_exp(map(positive_term, positives))
        losses.append(math.log1p(math.exp(total)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("margin", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_triplet(seed, margin):
    features = draw(seed)
    found = batch_hard_triplet(features, torch.tensor(PIDS), margin=margin)
    assert found.item() == pytest.approx(loop_triplet(features, PIDS, margin), rel=1e-10)


@pytest.mark.parametrize("pids", [PIDS, [0, 0, 0, 0, 1, 1, 1, 1], [*range(8)], [0] * 7 + [1]])
@pytest.mark.parametrize("margin", [0.0, 0.3, 5.0, None])
@pytest.mark.parametrize("seed", range(3))
def test_euclidean_triplet(seed, margin, pids):
    features = draw(seed)
    found = batch_hard_triplet_euclidean(features, torch.tensor(pids), margin=margin)
    # The distance of a row to itself is 1e-6, not 0, in what is computed.
    expected = loop_euclidean_triplet(features, pids, margin)
    assert found.item() == pytest.approx(expected, rel=1e-10, abs=1e-6)


@pytest.mark.parametrize("margin", [0.3, None])
class TestEuclideanTriplet:
    def test_one_identity_only_is_no_violation(self, margin):
        features = draw(dtype=torch.float32)
        loss = batch_hard_triplet_euclidean(features, torch.zeros(8).long(), margin=margin)
        loss.backward()
        assert loss.item() == 0
        assert not features.grad.any()

    @pytest.mark.parametrize(
        "features", [torch.ones(8, 5), torch.zeros(8, 5), 1e4 * torch.ones(8, 5)]
    )
    def test_gradients_are_finite_for_equal_features(self, features, margin):
        features = features.clone().requires_grad_()
        loss = batch_hard_triplet_euclidean(features, torch.tensor(PIDS), margin=margin)
        loss.backward()
        expected = math.log(2) if margin is None else margin
        assert loss.item() == pytest.approx(expected, abs=1e-3)
        assert not features.grad.any()

    def test_half_precision_input_is_computed_in_float32(self, margin):
        features, pids = draw(dtype=torch.bfloat16), torch.tensor(PIDS)
        with torch.autocast("cpu", torch.bfloat16):
            loss = batch_hard_triplet_euclidean(features, pids, margin=margin)
        assert loss.dtype == torch.float32
        assert torch.equal(
            loss, batch_hard_triplet_euclidean(features.float(), pids, margin=margin)
        )

    def test_gallery_of_all_anchors_gives_each_anchors_share(self, margin):
        features, pids = draw(), torch.tensor(PIDS)
        halves = [
            batch_hard_triplet_euclidean(
                features[start : start + 4],
                pids[start : start + 4],
                margin=margin,
                gallery=PairGallery(features, pids, start),
            )
            for start in (0, 4)
        ]
        whole = batch_hard_triplet_euclidean(features, pids, margin=margin)
        assert torch.stack(halves).mean().item() == pytest.approx(whole.item(), rel=1e-10)


@pytest.mark.parametrize("scale", [1, 16])
@pytest.mark.parametrize("seed", range(3))
def test_contrastive(seed, scale):
    features = draw(seed)
    found = contrastive(features, torch.tensor(PIDS), scale=scale)
    assert found.item() == pytest.approx(loop_contrastive(features, PIDS, scale), rel=1e-10)


@pytest.mark.parametrize(("scale", "margin"), [(16, 0.0), (16, 0.3), (2, 0.1)])
@pytest.mark.parametrize("seed", range(3))
def test_pairwise_cosface(seed, scale, margin):
    features = draw(seed)
    expected = loop_pairwise(features, PIDS, lambda c: scale * (c + margin), lambda c: -scale * c)
    found = pairwise_cosface(features, torch.tensor(PIDS), scale=scale, margin=margin)
    assert found.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("scale", "margin"), [(48, 0.35), (16, 0.0)])
@pytest.mark.parametrize("seed", range(3))
def test_pairwise_circle(seed, scale, margin):
    features = draw(seed)
    expected = loop_pairwise(
        features,
        PIDS,
        lambda c: scale * max(c + margin, 0) * (c - margin),
        lambda c: scale * max(1 + margin - c, 0) * (1 - margin - c),
    )
    found = pairwise_circle(features, torch.tensor(PIDS), scale=scale, margin=margin)
    assert found.item() == pytest.approx(expected, rel=1e-10)


LOSSES = {
    "triplet": batch_hard_triplet,
    "contrastive": contrastive,
    "pairwise_cosface": pairwise_cosface,
    "pairwise_circle": pairwise_circle,
}


@pytest.mark.parametrize("name", list(LOSSES))
class TestEveryPairLoss:
    def test_does_not_depend_on_the_length_of_features(self, name):
        features, pids = draw(), torch.tensor(PIDS)
        found = LOSSES[name](features * 1e3, pids)
        assert found.item() == pytest.approx(LOSSES[name](features, pids).item(), rel=1e-10)

    def test_does_not_depend_on_the_order_of_the_batch(self, name):
        features, pids = draw(), torch.tensor(PIDS)
        order = torch.tensor([4, 2, 7, 0, 1, 6, 3, 5])
        found = LOSSES[name](features[order], pids[order])
        assert found.item() == pytest.approx(LOSSES[name](features, pids).item(), rel=1e-10)

    def test_one_identity_only_is_no_violation(self, name):
        features = draw(dtype=torch.float32)
        loss = LOSSES[name](features, torch.zeros(8, dtype=torch.long))
        loss.backward()
        assert loss.item() == pytest.approx(0, abs=1e-6)
        assert torch.isfinite(features.grad).all()

    def test_no_two_of_one_identity(self, name):
        features = draw(dtype=torch.float32)
        loss = LOSSES[name](features, torch.arange(8))
        loss.backward()
        assert torch.isfinite(features.grad).all()
        if name == "triplet":  # the anchor itself is its only positive
            cosines = torch.nn.functional.normalize(features.detach())
            nearest = (cosines @ cosines.T).fill_diagonal_(-1).max(dim=1).values
            assert loss.item() == pytest.approx((nearest - 1 + 0.3).relu().mean().item(), abs=1e-6)
        else:
            assert loss.item() == 0

    @pytest.mark.parametrize("features", [torch.ones(8, 5), torch.zeros(8, 5)])
    def test_gradients_are_finite_for_equal_and_zero_features(self, name, features):
        features = features.clone().requires_grad_()
        loss = LOSSES[name](features, torch.tensor(PIDS))
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(features.grad).all()

    def test_half_precision_input_is_computed_in_float32(self, name):
        features, pids = draw(dtype=torch.bfloat16), torch.tensor(PIDS)
        with torch.autocast("cpu", torch.bfloat16):
            loss = LOSSES[name](features, pids)
        assert loss.dtype == torch.float32
        assert torch.equal(loss, LOSSES[name](features.float(), pids))

    def test_gallery_of_all_anchors_gives_each_anchors_share(self, name):
        features, pids = draw(), torch.tensor(PIDS)
        halves = [
            LOSSES[name](part, pids[start : start + 4], gallery=PairGallery(features, pids, start))
            for start, part in ((0, features[:4]), (4, features[4:]))
        ]
        found = torch.stack(halves).mean().item()
        assert found == pytest.approx(LOSSES[name](features, pids).item(), rel=1e-10)


def test_one_process_has_its_own_batch_as_gallery():
    features, pids = draw(), torch.tensor(PIDS)
    gallery = gather_gallery(features, pids)
    assert gallery.features is features
    assert gallery.pids is pids
    assert gallery.offset == 0


# Every process compares its batch with both; gradient must stay with its own rows.
PROCESS = """
import sys
import torch
import torch.distributed as dist
from reid_core.losses import batch_hard_triplet, gather_gallery

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=sys.argv[3], rank=rank, world_size=2)
features = torch.arange(12.0).reshape(4, 3).sin().add(rank).requires_grad_()
pids = torch.tensor([0, 0, 1 + rank, 1 + rank])
gallery = gather_gallery(features, pids)
loss = batch_hard_triplet(features, pids, gallery=gallery)
loss.backward()
torch.save({"features": features.detach(), "pids": pids, "gallery": gallery.features.detach(),
            "gallery_pids": gallery.pids, "offset": gallery.offset, "loss": loss.detach(),
            "gradient": features.grad}, f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes(tmp_path):
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    meeting = (tmp_path / "meeting").as_uri()
    command = [sys.executable, str(script)]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path), meeting]) for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    results = [torch.load(Path(tmp_path, f"{rank}.pt")) for rank in range(2)]
    everything = torch.cat([result["features"] for result in results])
    pids = torch.cat([result["pids"] for result in results])
    for rank, result in enumerate(results):
        assert result["offset"] == 4 * rank
        assert torch.equal(result["gallery"], everything)
        assert torch.equal(result["gallery_pids"], pids)
        # The same in one process, the other half being a constant.
        own = result["features"].clone().requires_grad_()
        halves = [own if other == rank else results[other]["features"] for other in range(2)]
        gallery = PairGallery(torch.cat(halves), pids, 4 * rank)
        loss = batch_hard_triplet(own, result["pids"], gallery=gallery)
        loss.backward()
        assert torch.equal(result["loss"], loss.detach())
        assert torch.equal(result["gradient"], own.grad)


def test_hardest_pairs_of_each_anchor():
    features = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=torch.float64)
    found = hardest_pairs(features, torch.tensor([0, 0, 1, 2]))
    assert found.positive.tolist() == pytest.approx([1, 1, 1e-6, 1e-6])
    assert found.negative.tolist() == pytest.approx([3, 2, 2, 4])
    alone = hardest_pairs(features, torch.zeros(4, dtype=torch.long))
    assert alone.positive.tolist() == pytest.approx([7, 6, 4, 7])
    assert torch.isinf(alone.negative).all()
