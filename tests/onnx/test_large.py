"""Models of more than 2 GB, which protobuf refuses to copy, to measure and to write as a whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import autoprune as ap
from tests.effort import FUZZ
from tests.tolerance import CUT

WIDTH, HIDDEN = 8192, 33_600  # two tensors of 1.1 GB
MEMORY = 20 * 2**30
"""Bytes that this takes, and that have to be free."""

pytestmark = [
    pytest.mark.skipif(not FUZZ, reason="takes minutes: make fuzz runs it"),
    pytest.mark.skipif(
        os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < MEMORY,
        reason="needs 20 GB of free memory",
    ),
]


def external(folder: Path, name: str, shape: tuple[int, int]) -> TensorProto:
    """A tensor in a file of its own, whose rows are all different."""
    row = np.random.default_rng(0).standard_normal(shape[1]).astype(np.float32) / 100
    with (folder / name).open("wb") as file:
        for i in range(shape[0]):
            file.write(np.roll(row, i).tobytes())
    tensor = TensorProto(
        name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value=name)
    return tensor


@pytest.fixture
def place(tmp_path):
    """A folder that is gone after the test; those of pytest stay for a while."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_a_model_of_more_than_2_gb(place):
    folder = place / "net"
    folder.mkdir()
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, WIDTH]) for n in "xy")
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "down"], ["y"]),
    ]
    weights = [
        external(folder, "up", (WIDTH, HIDDEN)), external(folder, "down", (HIDDEN, WIDTH))
    ]  # fmt: skip
    graph = helper.make_graph(nodes, "large", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "net.onnx")

    result = ap.prune(folder / "net.onnx", channels=0.99, criterion="random")
    assert result.report.error < CUT
    result.save(place / "small.onnx")
    assert (place / "small.onnx.data").stat().st_size > 2**31
    session = onnxruntime.InferenceSession(str(place / "small.onnx"))
    (got,) = session.run(None, {"x": np.ones((1, WIDTH), np.float32)})
    assert np.isfinite(got).all()
