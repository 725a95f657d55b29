"""How the speedup of a fusion region is measured, with a clock that runs as told."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

from autoprune.passes.lower import measure
from autoprune.passes.lower.fuse import find_fusions
from autoprune.passes.lower.match import find_products
from autoprune.passes.lower.onnx_graph import wiring
from tests.compiler.test_lowering import graph

OWN = 8.0
"""Seconds that a session takes, whatever it computes."""

TAKES = {"MatMul": 6.0, "SparseLinear": 2.0, "Shape": 0.0}


@pytest.fixture
def clock(monkeypatch):
    """Sessions that let a clock run by what their operators take."""
    now = [0.0]

    class Session:
        def __init__(self, model):
            nodes = onnx.load_from_string(model).graph.node
            self.seconds = OWN + sum(TAKES[node.op_type] for node in nodes)

        def run(self, names, feed):
            now[0] += self.seconds

    monkeypatch.setattr(measure, "open_session", lambda model, *_, **__: Session(model))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])


def test_what_sessions_take_for_themselves_does_not_count(clock):
    weight = np.ones((8, 16))
    weight[:, 2:] = 0
    model = graph([("MatMul", ["x", "w"], ["y"])], {"w": weight.T}, {"x": [4, 16]})
    wired = wiring(model)
    region = find_fusions(find_products(model, wired), wired, ["float32"])
    feed = {"x": np.zeros((4, 16), np.float32)}
    assert measure.speedup(model, region, lambda *_: 0, None, feed, {}) == (3.0, 3.0, 3.0)
