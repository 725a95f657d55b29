"""The law over real architectures: half of every exact group cut at random equals zeroed.

`make zoo` runs every model; this runs those that a quick run can afford.
"""

import json
from pathlib import Path

import pytest

from tests.tolerance import CUT
from tests.zoo.examine import examine
from tests.zoo.models import ZOO

EXPECTED = json.loads(Path(__file__).with_name("expected.json").read_text())
QUICK = [row for row in ZOO if row.cheap or row.name == "tv_vgg16_bn"]


@pytest.mark.zoo
@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.name)
def test_cut_equals_zeroed(row):
    found = examine(row)
    assert found.error <= CUT
    expected = EXPECTED[row.name]
    assert found.params <= expected["params"] + 0.01, "less of the network is prunable than before"
    assert found.module == expected["module"], found.reason


@pytest.mark.zoo
def test_every_model_has_an_expectation():
    assert {row.name for row in ZOO} == set(EXPECTED)
