"""The law over real architectures: half of every exact group cut at random equals zeroed.

`make zoo` examines every model, more thoroughly; this the models that a quick run can afford.
"""

import json
from pathlib import Path

import pytest

from tests.tolerance import CUT
from tests.zoo.examine import examine
from tests.zoo.models import ZOO
from tests.zoo.prunable import PRUNABLE

EXPECTED = json.loads(Path(__file__).with_name("expected.json").read_text())
QUICK = [row for row in ZOO if row.cheap]

WRITTEN = frozenset(
    {
        "hf_bert",
        "hf_llama",
        "hf_t5",
        "hf_vit",
        "small_c2f",
        "small_concat_slice",
        "small_conv3d",
        "small_cross_attention",
        "small_lstm",
        "small_rms_norm",
        "small_shuffle",
        "small_super_resolution",
        "small_transformer_encoder",
        "small_unet",
    }
)
"""Models that the quick run writes to files as well: the exporter takes seconds for each."""

SHARE = 0.01
"""By how much shares of the parameters may be off: groups are cut to whole units."""


@pytest.mark.zoo
@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.name)
def test_cut_equals_zeroed(row):
    found = examine(row, files=row.name in WRITTEN)
    assert found.error <= CUT
    expected = EXPECTED[row.name]
    assert found.prunable >= expected["prunable"] - SHARE, "less is prunable than before"
    assert found.params <= expected["params"] + SHARE, "less is cut than before"
    assert found.module == expected["module"], found.reason


@pytest.mark.zoo
def test_what_is_said_of_models_is_said_of_models_that_exist():
    names, quick = {row.name for row in ZOO}, {row.name for row in QUICK}
    assert quick <= set(EXPECTED) <= names
    assert set(PRUNABLE) <= names
    assert quick >= WRITTEN
