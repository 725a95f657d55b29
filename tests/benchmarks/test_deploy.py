"""The benchmarks of sparse kernels, on products and networks that are over in a moment."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

import onnx
import torch
from torch import nn

import autoprune as ap
from autoprune.passes.lower.simplify import simplified
from benchmarks import kernels, networks
from benchmarks.deploy import variants
from benchmarks.deploy.models import Network, formats_of
from benchmarks.deploy.page import write_page
from benchmarks.deploy.variants import Variant
from benchmarks.deploy.xnnpack import LIBRARIES, unfit

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def small():
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 1), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.Hardtanh(0, 6),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64),
    )  # fmt: skip


def test_formats():
    assert formats_of(small()) == {"2.weight": "block 4x1", "8.weight": "block 64x1"}
    assert formats_of(small(), int8=True) == {"2.weight": "block 4x4", "8.weight": "block 64x4"}


@pytest.mark.slow
def test_a_network_in_turns(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "ROUNDS", 2)
    monkeypatch.setattr(networks, "SECONDS", 0.001)
    monkeypatch.setattr(variants, "PERCENTS", (80,))
    network = Network("small", small, lambda: torch.randn(1, 3, 16, 16))
    found = networks.timed(network, [1])
    assert {"dense", "int8 of ONNX Runtime", "blocks 80 %", "channels 50 %"} <= set(found)
    assert all(
        0 < best <= middle for row in found.values() for best, middle in row["times"].values()
    )
    write_page(tmp_path / "page.md", {"small": found})
    text = (tmp_path / "page.md").read_text()
    assert "| dense |" in text
    assert "1.00x (1.00x)" in text


@pytest.mark.parametrize("engine", ["xnnpack", "xnnpack-sparse"])
def test_xnnpack_computes_what_onnxruntime_does(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "ROUNDS", 1)
    monkeypatch.setattr(networks, "SECONDS", 0.001)
    x = torch.randn(1, 3, 16, 16)
    sparse = ap.sparsify(small(), x, format=formats_of(small()), sparsity=0.8)
    sparse.save(tmp_path / "sparse.onnx")
    model = simplified(onnx.load(tmp_path / "sparse.onnx"))
    if any(library in unfit(model) for library in LIBRARIES):
        pytest.skip("needs libxnnpack0")
    assert unfit(model) == ""
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "feed.npz", **{model.graph.input[0].name: x.numpy()})
    variant = Variant("small", engine, tmp_path / "model.onnx")
    (times,) = networks.in_turns([variant], tmp_path / "feed.npz", 1)
    assert min(times) > 0


def test_xnnpack_is_left_out_where_it_cannot_be_sparse():
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 17]> g (float[1, 3, 8, 8] x) => (float[1, 3, 8, 8] y)'
        "{ y = Tanh(x) }"
    )
    assert unfit(model)


@pytest.mark.parametrize("kernel", [0, 3])
def test_products_in_turns(kernel, monkeypatch):
    monkeypatch.setattr(kernels, "ROUNDS", 2)
    monkeypatch.setattr(kernels, "ROTATED", 1)
    monkeypatch.setattr(kernels, "SPARSITIES", (0.5, 0.9))
    monkeypatch.setattr(kernels, "CONV", ("block 8x1", "int8 4x4"))
    monkeypatch.setattr(kernels, "LINEAR", ("block 32x1",))
    title, rule, *rows = kernels.table(kernels.Shape("tiny", 64, 64, 6, kernel))
    assert title.startswith("| tiny")
    assert rule == "|---" * 3 + "|"
    assert len(rows) == 3
    by_name = {row.split(" | ")[0].strip("| "): row for row in rows}
    for name in ("block 8x1", "int8 4x4") if kernel else ("block 32x1",):
        assert float(by_name[name].split(" | ")[-1].strip("| ")) > 0
