"""What is not for a terminal has no name broken; what is for one fits into it."""

import sys

import pytest

MODULE = "layers_of_an_encoder_with_quite_a_long_name"
NAME = f"{MODULE}.first_of_the_projections_in_an_attention.weight"

NET = f"""
from collections import OrderedDict
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    inner = OrderedDict(
        first_of_the_projections_in_an_attention=nn.Linear(64, 256),
        act=nn.ReLU(),
        second_of_the_projections_in_an_attention=nn.Linear(256, 64),
    )
    return nn.Sequential(OrderedDict({MODULE}=nn.Sequential(inner))), torch.zeros(2, 64)
"""


@pytest.fixture
def piped(run, folder, monkeypatch):
    """What a command prints where its output is no terminal."""
    (folder / "longnet.py").write_text(NET)
    monkeypatch.setenv("COLUMNS", "40")

    def call(line):
        done = run(line)
        assert done.code == 0, done.err
        return done.out

    yield call
    sys.modules.pop("longnet", None)


def test_tables_of_inspect_and_prune(piped):
    text = piped("inspect longnet:build --all")
    assert f"{NAME}:0" in text
    assert f"{NAME}:1 (64)" in text
    text = piped("prune longnet:build --flops 0.5 --no-latency -o small.onnx -o small.safetensors")
    assert f"{NAME}:0" in text
    assert "…" not in text


def test_tables_of_sparsify_compile_and_bench(piped):
    assert NAME in piped("sparsify longnet:build -o sparse.onnx")
    pytest.importorskip("tvm")
    text = piped("compile sparse.onnx --no-measure -o small.apz")
    digest = text.split("--digest ")[1].strip()
    assert "node_linear" in text
    text = piped(f"bench small.apz --digest {digest} --seconds 0.05")
    assert "float32[" in text.splitlines()[0]
    assert "25 %" in text
