"""Linear layers of single weights, and several that run as one operator, against float64."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

from onnx import TensorProto, helper, numpy_helper

from autoprune.passes.kernels.build import build_library
from autoprune.passes.kernels.cpu.rowwise import Rowwise
from autoprune.passes.kernels.cpu.rowwise_int8 import RowwiseInt8
from autoprune.passes.kernels.cpu.scattered import Scattered
from autoprune.passes.lower.emit import below_each_other
from tests.kernels.blocks import draw, draw_integers, reference
from tests.kernels.test_operators import host, open_session, with_dot_products
from tests.tolerance import ROUNDING_SINGLE

INPUTS, OUTPUTS = 29, 37

LAYERS = [("", False), ("", True), ("gelu", True), ("relu", False)]


def session(path, kind, number, inputs, arrays, outputs=("y",), threads=1):
    """A session of one operator: the names of its inputs, and the constants among them."""
    node = helper.make_node(kind, inputs, outputs, domain="autoprune", kernel=number)
    values, made = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
        for names in ([name for name in inputs if name and name not in arrays], outputs)
    )
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    return open_session(helper.make_graph([node], "one", values, made, constants), path, threads)


def arrays_of(weights):
    return {name: a for name, a in dataclasses.asdict(weights).items() if name != "dense"}


def close(got, expected):
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING_SINGLE * scale / 10)


@pytest.fixture(scope="module")
def scattered(tmp_path_factory):
    """A library of kernels for single weights."""
    path = tmp_path_factory.mktemp("scattered") / "operators.so"
    made = [Scattered(name, residual=residual).lower(host()) for name, residual in LAYERS]
    build_library([*made, Rowwise(16).lower(host())], host(), path)
    return path


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_single_weights_at_every_number_of_positions(number, threads, scattered):
    """Panels have 64 positions at most, of which the last ones may not be there."""
    activation, residual = LAYERS[number]
    rng = np.random.default_rng(number)
    weights = draw(rng, 1, OUTPUTS, INPUTS, 0.3)
    arrays = arrays_of(weights)
    inputs = ["x", *arrays, *["added"] * residual]
    run = session(scattered, "SparseLinearScattered", number, inputs, arrays, threads=threads)
    for positions in (*range(1, 70), 100, 127, 128, 129, 193, 300):
        feed = {"x": rng.standard_normal((positions, INPUTS)).astype(np.float32)}
        if residual:
            feed["added"] = rng.standard_normal((positions, OUTPUTS)).astype(np.float32)
        (got,) = run.run(None, feed)
        close(got, reference(weights, feed["x"], activation, feed.get("added"), rowwise=True))


@pytest.mark.parametrize("shape", [(INPUTS,), (3, 5, INPUTS), (2, 0, INPUTS)])
def test_single_weights_take_any_dimensions(shape, scattered):
    rng = np.random.default_rng(0)
    weights = draw(rng, 1, OUTPUTS, INPUTS, 0.3)
    arrays = arrays_of(weights)
    run = session(scattered, "SparseLinearScattered", 0, ["x", *arrays], arrays)
    x = rng.standard_normal(shape).astype(np.float32)
    (got,) = run.run(None, {"x": x})
    assert got.shape == (*shape[:-1], OUTPUTS)
    close(got, reference(weights, x, "", rowwise=True))


def test_kernels_for_blocks_are_refused_for_single_weights(scattered):
    weights = draw(np.random.default_rng(0), 16, 2, INPUTS, 0.3)
    arrays = arrays_of(weights)
    run = session(scattered, "SparseLinearScattered", len(LAYERS), ["x", *arrays], arrays)
    with pytest.raises(Exception, match="the kernel is for other weights"):
        run.run(None, {"x": np.zeros((4, INPUTS), np.float32)})


@pytest.fixture(scope="module", params=["SparseLinear", "SparseLinearInt8"])
def joined(request, tmp_path_factory):
    """Three layers of different widths: their weights, each for itself and all in one."""
    int8 = request.param.endswith("Int8")
    target = with_dot_products() if int8 else host()
    path = tmp_path_factory.mktemp("joined") / "operators.so"
    build_library([(RowwiseInt8 if int8 else Rowwise)(16).lower(target)], target, path)
    rng = np.random.default_rng(0)
    make = draw_integers if int8 else draw
    layers = [arrays_of(make(rng, 16, rows, 64, 0.4)) for rows in (3, 1, 9)]
    return path, request.param, layers, below_each_other(layers)


def joined_session(joined, ends, outputs=("q", "k", "v"), **options):
    path, kind, _, together = joined
    arrays = together | {"ends": np.array(ends, np.int32)}
    return session(path, kind, 0, ["x", *together, "", "ends"], arrays, outputs, **options)


@pytest.mark.parametrize("threads", [1, 2])
def test_layers_in_one_operator_compute_the_same(threads, joined):
    path, kind, layers, _ = joined
    run = joined_session(joined, (3, 4, 13), threads=threads)
    rng = np.random.default_rng(1)
    for positions in (0, 1, 3, 16, 33, 200):
        x = rng.standard_normal((2, positions, 64)).astype(np.float32)
        for got, arrays in zip(run.run(None, {"x": x}), layers, strict=True):
            (alone,) = session(path, kind, 0, ["x", *arrays], arrays).run(None, {"x": x})
            assert np.array_equal(got, alone)


@pytest.mark.parametrize("ends", [(3, 4), (3, 4, 12), (3, 4, 14), (4, 3, 13), (-1, 4, 13)])
def test_ends_that_do_not_match_are_refused(ends, joined):
    run = joined_session(joined, ends)
    with pytest.raises(Exception, match=r"outputs and their ends|ends of outputs"):
        run.run(None, {"x": np.zeros((2, 64), np.float32)})
