"""model.json: how the training step adds up the terms, in every setting that it shares."""

import pytest
import torch

from reid_deskpro.config import LossConfig
from reid_deskpro.step import DeskProLosses, StreamLosses

TOLERANCE = 1e-6  # golden README, float64


@pytest.fixture(scope="module")
def record(golden):
    return golden.json("model.json")


def losses(record, config):
    def total(name, heads):
        return torch.tensor(record[name][heads], dtype=torch.float64).sum()

    def stream(heads, features):
        return StreamLosses(total("ce_each", heads), total("triplet_each", features))

    face = body = distill = attention = None
    if config["mode"] != "body":
        face = stream(slice(0, 7), slice(0, 3))
        distill = total(f"kd_each_T{config['T']:g}", slice(None)) if config["kd_enable"] else None
    if config["mode"] != "face":
        body = stream(slice(7, 14), slice(3, 6))
        attention = torch.tensor(record["attn_loss"], dtype=torch.float64)
    return DeskProLosses(face, body, distill, attention)


def test_totals(record):
    checked = set()
    for config in record["configs"]:
        settings = LossConfig(alpha=config["alpha"], attention_weight=config["mse_weight"])
        expected, has_face = config["total"], config["mode"] != "body"
        if has_face and not config["kd_enable"]:
            expected -= config["alpha"] * config["kd"]  # officially added where it is off
        if not has_face and config["kd_enable"]:
            continue  # officially the body's heads are scaled by 1 - alpha
        found = losses(record, config).total(settings).item()
        assert found == pytest.approx(expected, rel=TOLERANCE), config
        checked.add(config["mode"])
    assert checked == {"all", "face", "body"}
