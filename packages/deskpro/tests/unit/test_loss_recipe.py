"""The grammar of loss recipes."""

from __future__ import annotations

import pytest

from reid_core.errors import ConfigError
from reid_deskpro.loss_recipe import parse_loss_recipe


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1*CrossEntropy+1*Triplet", [("CrossEntropy", 1), ("Triplet", 1)]),
        (" 0.5 * MSLoss + 2*CrossEntropy ", [("MSLoss", 0.5), ("CrossEntropy", 2)]),
        ("0*Triplet", [("Triplet", 0)]),
        ("1e-2*Triplet", [("Triplet", 0.01)]),
    ],
)
def test_terms(text, expected):
    assert [tuple(term) for term in parse_loss_recipe(text)] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"cannot read '' in the loss recipe ''; a recipe is weight\*Name joined by plus"),
        ("Triplet", r"cannot read 'Triplet' in the loss recipe"),
        ("1*Triplet+", r"cannot read '' in the loss recipe '1\*Triplet\+'"),
        ("x*Triplet", r"cannot read 'x\*Triplet' in the loss recipe"),
        ("-1*Triplet", r"cannot read '-1\*Triplet'.*at least 0"),
        ("inf*Triplet", r"cannot read 'inf\*Triplet'"),
        ("nan*Triplet", r"cannot read 'nan\*Triplet'"),
        ("1*Focal", r"unknown loss 'Focal'.*there are CrossEntropy, Triplet, MSLoss"),
        ("1*triplet", r"unknown loss 'triplet'"),
        ("1*Triplet+2*Triplet", r"holds Triplet twice; join them"),
    ],
)
def test_errors(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_loss_recipe(text)
