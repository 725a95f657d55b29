"""The benchmarks of sparse kernels, on products and networks that are over in a moment."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

import torch
from torch import nn

from benchmarks import kernels, networks
from benchmarks.deploy import variants
from benchmarks.deploy.models import Network, formats_of
from benchmarks.deploy.page import write_page

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def small():
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64),
    )  # fmt: skip


def test_formats():
    assert formats_of(small()) == {"2.weight": "block 4x1", "6.weight": "block 64x1"}
    assert formats_of(small(), int8=True) == {"2.weight": "block 4x4", "6.weight": "block 64x4"}


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
    name = "block 8x1" if kernel else "block 32x1"
    assert float(by_name[name].split(" | ")[-1].strip("| ")) > 0
    if kernel == 3:
        assert by_name["int8 4x4"].count("| -") == 2
