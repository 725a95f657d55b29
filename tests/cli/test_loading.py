"""Example inputs as they are typed: `--input`."""

import pytest
import torch

from autoprune.cli.inputs import InputSpec, parse_input
from autoprune.cli.loading import make_inputs
from autoprune.errors import AutopruneError


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("1x3x224x224", InputSpec((1, 3, 224, 224))),
        ("7", InputSpec((7,))),
        ("ids=1x128:int64", InputSpec((1, 128), "int64", "ids")),
        ("ids=1x128:int64:30522", InputSpec((1, 128), "int64", "ids", 30522)),
        ("2x2:bool", InputSpec((2, 2), "bool")),
        (" 2x2:float16 ", InputSpec((2, 2), "float16")),
    ],
)
def test_parse_input(text, spec):
    assert parse_input(text) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1x",
        "1x0",
        "9" * 5000,
        "100000x100000x100000",
        "4:int64:²",
        "4:int64:" + "9" * 30,
        "1x-3",
        "1.5x2",
        "²x3",
        "=1x3",
        "a=b=1",
        "a b=1x3",
        "1x3:float",
        "1x3:float32:9",
        "1:int64:",
        "1:int64:0",
        "1:int64:5:6",
    ],
)
def test_wrong_input(text):
    with pytest.raises(AutopruneError, match="what to do: write 1x3x224x224"):
        parse_input(text)


def test_inputs_are_valid_and_repeatable():
    specs = [parse_input("ids=4x50:int64:9"), parse_input("mask=4x50:bool")]
    first, second = make_inputs(specs), make_inputs(specs)
    assert list(first) == ["ids", "mask"]
    assert first["ids"].dtype == torch.int64
    assert set(first["ids"].flatten().tolist()) == set(range(9))
    assert first["mask"].all()
    assert all(first[n].equal(second[n]) for n in first)
    assert set(make_inputs([parse_input("99:int32")])[0].tolist()) == {0, 1}
