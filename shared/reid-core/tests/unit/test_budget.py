"""What commands count before they start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from reid_core import memory
from reid_core.commands.budget import add_embedding, add_evaluation, plan_training
from reid_core.commands.ranking_budget import add_ranking, open_plan, rerank_limit
from reid_core.config import DataConfig
from reid_core.data.sample import ReIDDataset, Sample
from reid_core.engine.distributed import World
from reid_core.errors import MemoryLimitError
from reid_core.evaluation import PROTOCOLS
from reid_core.evaluation.ranking import ranking_bytes
from reid_core.evaluation.reranking.config import RerankConfig
from reid_core.evaluation.reranking.neighbours import neighbours_bytes
from reid_core.evaluation.reranking.reranked import rerank_bytes
from reid_core.memory import MemoryPlan
from reid_core.models.footprint import embedding_footprint, training_footprint

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)
GB = 10**9
DATA = DataConfig(height=64, width=32, test_batch_size=16)
BATCH = 16 * 3 * 64 * 32
PROTOCOL = PROTOCOLS["ltcc/standard"]


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=4)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 6, 3, stride=4)

    def forward(self, images):
        return self.last(self.norm(self.first(images)).relu()).mean((2, 3))

    def embed(self, images):
        return self(images)


@pytest.fixture
def plan(monkeypatch):
    """Return a function that makes an empty plan of some bytes."""

    def make(allowed=8 * GB):
        monkeypatch.setattr(memory, "available_memory", lambda: allowed)
        monkeypatch.setattr(memory, "resident_memory", lambda: 0)
        return MemoryPlan(reserve=0)

    return make


def samples(count, split):
    return [Sample(Path(f"{split}/{i}.jpg"), i % 5, i % 3) for i in range(count)]


SPLITS = {name: samples(count, name) for name, count in (("query", 10), ("gallery", 90))}


def parts(plan, phase=None):
    found = [part for part in plan.parts[2:] if phase in (None, part.phase)]
    return {part.what.split(" (")[0]: part.num_bytes for part in found}


def test_embedding_counts_batches_and_activations_on_a_cpu(plan):
    network, budget = Network(), plan()
    activations, dim = embedding_footprint(network, (16, 3, 64, 32))
    assert add_embedding(budget, network, DATA, CPU) == dim == 6
    assert parts(budget) == {
        "batches of 16 images of 64 x 32": 5 * 4 * BATCH,
        "the network's work on 16 images of 64 x 32": activations,
    }


def test_embedding_on_a_gpu_counts_pixels_on_the_host_only(plan):
    budget = plan()
    assert add_embedding(budget, Network(), DATA, CUDA) == 6
    assert parts(budget) == {"batches of 16 images of 64 x 32": 6 * BATCH}


def test_evaluation_counts_features_ranking_and_images(plan):
    budget = plan()
    data = add_evaluation(budget, Network(), SPLITS, [PROTOCOL], DATA, device=CPU, world=World())
    assert data == replace(DATA, cache="memory")
    always = parts(budget, "")
    assert always == {
        "features of the test images": 4 * 100 * 6,
        "decoded images of query": 10 * 3 * 64 * 32,
        "decoded images of gallery": 90 * 3 * 64 * 32,
    }
    assert parts(budget, "while ranking") == {
        "comparison of all images": ranking_bytes(10, 90, 6, torch.get_num_threads())
    }
    assert parts(budget, "while re-ranking") == {}


def test_every_feature_of_every_image_is_counted(plan):
    class Two(Network):
        cross_modal = True
        feature_names = ("fc", "pool")

        def embed_each(self, images, infrared):
            return torch.stack([self(images), self(images)], dim=1)

    budget = plan()
    add_evaluation(budget, Two(), SPLITS, [PROTOCOL], DATA, device=CPU, world=World())
    assert parts(budget, "")["features of the test images"] == 2 * 4 * 100 * 6
    # One protocol after the other, and one feature after the other.
    assert parts(budget, "while ranking") == {
        "comparison of all images": ranking_bytes(10, 90, 6, torch.get_num_threads())
    }


class WithFaces(Network):
    """Two parts of a face and four of the image, 24 numbers in all."""

    companions = {"lr_face": (40, 32)}  # noqa: RUF012
    part_groups = {"face": 2, "body": 4}  # noqa: RUF012

    def forward(self, images, lr_face):
        body, face = super().forward(images), super().forward(lr_face)
        return torch.cat([face, face[:, :2], body, body, body[:, :4]], dim=1)

    def embed(self, images, lr_face):
        return self(images, lr_face)


def test_companions_and_groups_of_parts_are_counted(plan):
    budget = plan()
    data = add_evaluation(budget, WithFaces(), SPLITS, [PROTOCOL], DATA, device=CPU, world=World())
    assert data.cache == "memory"
    assert parts(budget, "") == {
        "features of the test images": 4 * 100 * 24,
        "features of one group of parts": 4 * 100 * 16,
        "decoded images of query": 10 * 3 * 64 * 32,
        "decoded images of query, lr_face": 10 * 3 * 40 * 32,
        "decoded images of gallery": 90 * 3 * 64 * 32,
        "decoded images of gallery, lr_face": 90 * 3 * 40 * 32,
    }
    faces = parts(budget, "while embedding")["batches of 16 lr_face of 40 x 32"]
    assert faces == 5 * 4 * 16 * 3 * 40 * 32


def test_several_processes_exchange_features_and_share_a_file(plan):
    budget, world = plan(), World(world_size=4, local_world_size=4)
    data = add_evaluation(budget, Network(), SPLITS, [PROTOCOL], DATA, device=CPU, world=world)
    assert data.cache == "disk"
    assert "exchange of features between processes" in parts(budget, "while embedding")
    assert "decoded images of query" not in parts(budget)


def test_the_search_that_needs_most_counts(plan):
    counts = {"query": 10, "gallery": 90, "query_same": 500, "query_diff": 10}
    budget = plan()
    cases = [(PROTOCOLS[name], counts) for name in ("prcc/cloth_changing", "prcc/same_clothes")]
    add_ranking(budget, cases, 512)
    needed = ranking_bytes(500, 90, 512, torch.get_num_threads())
    assert parts(budget) == {"comparison of all images": needed}
    budget = plan()
    add_ranking(budget, [(PROTOCOLS["prcc/same_clothes_single_shot"], counts)], 512)
    assert parts(budget)["features of chosen images, at most"] == 4 * 512 * 590


def test_reranking_may_use_what_is_left(plan):
    counts, config, budget = {"query": 100, "gallery": 9000}, RerankConfig(k1=5), plan(2 * GB)
    add_ranking(budget, [(PROTOCOL, counts)], 64, rerank=config)
    threads = torch.get_num_threads()
    least = rerank_bytes(9100, config, chunk=128, tile=512, num_threads=threads)
    ranking = ranking_bytes(100, 9000, 64, threads)
    assert parts(budget, "while re-ranking") == {
        "comparison of all images": ranking,
        "neighbours of all images, at least": least,
    }
    assert rerank_limit(budget) == 2 * GB - ranking


def test_query_expansion_is_counted(plan):
    budget = plan()
    add_ranking(budget, [(PROTOCOL, {"query": 100, "gallery": 900})], 64, expand=5)
    found = parts(budget, "while ranking")["query expansion"]
    assert found == 4 * 100 * 64 + neighbours_bytes(100, 5, num_threads=torch.get_num_threads())


@pytest.fixture
def plan_run(monkeypatch):
    """Return a function that plans a training, and the list of the plans that were judged."""
    monkeypatch.setattr(memory, "available_memory", lambda: 8 * GB)
    monkeypatch.setattr(memory, "resident_memory", lambda: 0)
    judged: list[MemoryPlan] = []
    require = MemoryPlan.require

    def judge(plan, work):
        judged.append(plan)
        require(plan, work)

    monkeypatch.setattr(MemoryPlan, "require", judge)
    dataset = ReIDDataset(
        name="ltcc", root=Path(), splits={**SPLITS, "train": samples(40, "train")}
    )

    def start(
        network,
        *,
        limit=None,
        cache="auto",
        device=CPU,
        processes=1,
        protocols=(PROTOCOL,),
        companions=None,
    ):
        world = World(world_size=processes, local_world_size=processes)
        return plan_training(
            SimpleNamespace(device=device, world=world, world_size=processes),
            network,
            dataset,
            protocols,
            replace(DATA, cache=cache),
            limit=limit,
            batch_size=8,
            moments=2,
            crop_scale=1.125,
            companions=companions,
        )

    return start, judged


def test_nothing_to_evaluate_is_not_counted(plan_run):
    start, judged = plan_run
    places = start(Network(), protocols=())
    assert places.train.cache == "memory"
    assert "decoded images of train" in parts(judged[-1], "")
    named = {part.what for part in judged[-1].parts}
    assert not [what for what in named if "test images" in what or "gallery" in what]
    assert not parts(judged[-1], "while ranking")
    assert not parts(judged[-1], "while embedding")


def test_training_counts_states_passes_and_both_kinds_of_images(plan_run):
    start, judged = plan_run
    network = Network()
    places = start(network)
    assert (places.test.cache, places.train.cache) == ("memory", "memory")
    learnt = 4 * sum(parameter.numel() for parameter in network.parameters())
    always = parts(judged[-1], "")
    assert always["the networks"] == learnt + 4 * (4 + 4) + 8  # the batch norm's statistics
    assert always["their gradients"] == learnt
    assert always["the optimisers' moments"] == 2 * learnt
    assert always["decoded images of train"] == 40 * 3 * (64 * 32 + 72 * 36)
    assert always["decoded images of gallery"] == 90 * 3 * 64 * 32
    assert parts(judged[-1], "while training") == {
        "batches of 8 images of 64 x 32": 5 * 4 * BATCH // 2,
        "the networks' work on 8 images of 64 x 32, backwards too": training_footprint(
            network, (8, 3, 64, 32)
        ),
    }
    assert len(parts(judged[-1], "while embedding")) == 2


def test_training_counts_companions(plan_run):
    start, judged = plan_run
    sizes = {"lr_face": (40, 32), "mask": (64, 32)}
    start(WithFaces(), companions=sizes)
    always = parts(judged[-1], "")
    assert always["decoded images of train, lr_face"] == 40 * 3 * (40 * 32 + 45 * 36)
    assert always["decoded images of train, mask"] == 40 * 3 * (64 * 32 + 72 * 36)
    training = parts(judged[-1], "while training")
    assert training["batches of 8 mask of 64 x 32"] == 5 * 4 * BATCH // 2
    assert training["the networks' work on 8 images of 64 x 32, backwards too"] == (
        training_footprint(WithFaces(), (8, 3, 64, 32), sizes)
    )


def test_training_on_another_device_keeps_states_and_passes_there(plan_run):
    start, judged = plan_run
    start(Network(), device=torch.device("mps"))
    names = set(parts(judged[-1]))
    assert "the networks" in names  # while they are built
    assert not {"their gradients", "the optimisers' moments"} & names
    assert not [name for name in names if "work on" in name]


def test_processes_exchange_gradients(plan_run):
    start, judged = plan_run
    start(Network(), processes=2)
    assert "exchange of gradients between processes" in parts(judged[-1], "while training")


def test_images_are_kept_in_memory_as_far_as_the_rest_leaves_room(plan_run):
    start, judged = plan_run
    start(Network(), cache="disk")
    rest = judged[-1].total
    for spare, expected in [
        (500_000, ("disk", "disk")),
        (600_000, ("disk", "memory")),  # test images need 614 kB, training images 557 kB
        (700_000, ("memory", "disk")),
        (1_200_000, ("memory", "memory")),
    ]:
        places = start(Network(), limit=str(rest + spare))
        assert (places.test.cache, places.train.cache) == expected
    with pytest.raises(MemoryLimitError, match=r"decoded images of train \(40, 64 x 32\)") as why:
        start(Network(), limit=str(rest + 700_000), cache="memory")
    assert "images in a file (--data.cache disk)" in str(why.value)


def test_a_limit_below_what_is_resident_already_is_refused_at_once(monkeypatch):
    monkeypatch.setattr(memory, "resident_memory", lambda: 700 * 10**6)
    with pytest.raises(MemoryLimitError, match="700 MB  Python, its libraries"):
        open_plan("evaluation", "800MB", CPU, World())
    open_plan("evaluation", "900MB", CPU, World())


def test_processes_of_one_machine_share_its_memory(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 4 * GB)
    world = World(world_size=8, local_world_size=2)
    assert open_plan("evaluation", None, CPU, world).allowed == 2 * GB
