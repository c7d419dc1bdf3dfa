"""Which stage of which cycle an epoch belongs to."""

import pytest

from reid_iics.cycle import find_place


@pytest.mark.parametrize(
    ("intra_epochs", "inter_epochs"), [(2, 2), (12, 2), (1, 1), (1, 3), (2, 0)]
)
def test_epochs_follow_the_stages_of_the_cycles(intra_epochs, inter_epochs):
    expected, first = [], 0
    for cycle in range(3):
        for stage, count in (("intra", intra_epochs), ("inter", inter_epochs)):
            for step in range(count):
                last = stage == ("inter" if inter_epochs else "intra") and step == count - 1
                expected.append((cycle, stage, first, last))
            first += count
    found = [find_place(epoch, intra_epochs, inter_epochs) for epoch in range(len(expected))]
    assert found == expected
