"""Sparse operators in ONNX Runtime against float64 products, on every tail and thread split."""

from __future__ import annotations

import ctypes
import dataclasses
import shutil

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from autoprune import TargetError
from autoprune.passes.kernels.activations import ACTIVATIONS
from autoprune.passes.kernels.build import build_library
from autoprune.passes.kernels.cpu.rowwise import Rowwise, RowwiseTile
from autoprune.passes.kernels.cpu.rowwise_int8 import RowwiseInt8, RowwiseInt8Tile
from autoprune.passes.kernels.cpu.spatial import Spatial, SpatialTile
from autoprune.passes.kernels.geometry import Geometry
from autoprune.passes.kernels.kernel import Lowered
from autoprune.passes.kernels.target import TARGETS, find_target
from autoprune.runtime.cpu import this_cpu
from tests.kernels.blocks import draw, draw_integers, reference, rounded_rows
from tests.tolerance import ROUNDING_SINGLE


def host():
    """The best target that this processor runs."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed, which links the kernels")
    cpu = this_cpu()
    found = [
        target
        for target in TARGETS.values()
        if target.machine == cpu.machine and set(target.features) <= cpu.features
    ]
    if not found:
        pytest.skip("this processor runs none of the targets")
    return found[0]


SPATIAL = [
    (4, ""), (4, "relu6"), (4, "gelu"), (8, "relu"), (8, "silu"), (8, "hardswish"), (16, ""),
    (1, ""),
]  # fmt: skip
ROWWISE = [(16, ""), (32, "gelu"), (64, "")]
DIVIDED = ((6, 4), (4, 2), (2, 1), (1, 1))
"""Positions of tiles, and parts of a block of 64 outputs: not all of one kind on any target."""


def families(target):
    made = []
    for residual in (False, True):
        made += [Spatial(r, a, residual=residual).lower(target) for r, a in SPATIAL]
        made += [Rowwise(r, a, residual=residual).lower(target) for r, a in ROWWISE]
        made.append(Lowered(64, tuple(RowwiseTile(64, t, "relu", residual, p) for t, p in DIVIDED)))
    return made


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """All families in one library, and its path."""
    target = host()
    path = tmp_path_factory.mktemp("kernels") / "operators.so"
    made = families(target)
    build_library(made, target, path)
    return made, path


def with_dot_products():
    """The best target of this processor if it multiplies 8-bit integers."""
    target = host()
    if target.dot is None:
        pytest.skip("this processor has no dot products of 8-bit integers")
    return target


INT8 = [(rows, activation) for rows in (16, 32, 64) for activation in ("", "gelu")]


@pytest.fixture(scope="module")
def int8_library(tmp_path_factory):
    """All families for 8-bit integers in one library, and its path."""
    target = with_dot_products()
    path = tmp_path_factory.mktemp("int8") / "operators.so"
    made = [RowwiseInt8(r, a, residual=res).lower(target) for res in (False, True) for r, a in INT8]
    divided = tuple(RowwiseInt8Tile(64, t, "relu", True, p, dot=target.dot) for t, p in DIVIDED)
    made.append(dataclasses.replace(made[0], rows=64, tiles=divided))
    build_library(made, target, path)
    return made, path


CASES = range(2 * (len(SPATIAL) + len(ROWWISE) + 1))


def open_session(graph, path, threads=1):
    """A session of a graph with the operators of a library."""
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("autoprune", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.register_custom_ops_library(str(path))
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def session(path, number, weights, ndim, *, rowwise, residual, threads=1):
    """A session of a model with one operator."""
    tensors = {k: v for k, v in dataclasses.asdict(weights).items() if k != "dense"}
    inputs = ["x", *tensors, *(["added"] if residual else [])]
    kind = "SparseLinear" if rowwise else "SparseConv"
    kind += "Int8" * ("scales" in tensors)
    settings = {} if rowwise else Geometry().attributes()
    node = helper.make_node(kind, inputs, ["y"], domain="autoprune", kernel=number, **settings)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * ndim)
        for name in (["x", "added"] if residual else ["x"])
    ]
    graph = helper.make_graph(
        [node], "one", values, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )  # fmt: skip
    return open_session(graph, path, threads)


def check(run, rng, weights, family, batch, positions):
    rowwise = isinstance(family.tiles[0], RowwiseTile)
    inputs, outputs = weights.dense.shape[1], len(weights.dense)
    shape = (batch, positions, inputs) if rowwise else (batch, inputs, positions, 1)
    after = (batch, positions, outputs) if rowwise else (batch, outputs, positions, 1)
    feed = {"x": rng.standard_normal(shape).astype(np.float32)}
    added = None
    if family.tiles[0].residual:
        feed["added"] = added = rng.standard_normal(after).astype(np.float32)
    expected = reference(weights, feed["x"], family.tiles[0].activation, added, rowwise=rowwise)
    (got,) = run.run(None, feed)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING_SINGLE * scale / 10)


@pytest.mark.parametrize("number", CASES)
def test_every_kernel_on_every_tail(number, library):
    made, path = library
    family, rng = made[number], np.random.default_rng(number)
    rowwise = isinstance(family.tiles[0], RowwiseTile)
    weights = draw(rng, family.rows, 5, 13, 0.4)
    run = session(
        path, number, weights, 3 if rowwise else 4,
        rowwise=rowwise, residual=family.tiles[0].residual,
    )  # fmt: skip
    largest = family.tiles[0].tile
    for positions in {*range(1, 18), largest - 1, largest, largest + 1, 2 * largest + 3, 196}:
        check(run, rng, weights, family, 1, max(1, positions))
    check(run, rng, weights, family, 3, 7)
    check(run, rng, weights, family, 2, 49)


@pytest.mark.parametrize("rowwise", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_number_of_positions(threads, rowwise, library):
    """A decomposition into tiles can be wrong for one size and one number of threads only."""
    made, path = library
    kind = RowwiseTile if rowwise else SpatialTile
    number = next(i for i, f in enumerate(made) if isinstance(f.tiles[0], kind))
    family, rng = made[number], np.random.default_rng(threads)
    # Enough work for several threads from a few positions on.
    weights = draw(rng, family.rows, 6, 300, 0.5)
    run = session(
        path, number, weights, 3 if rowwise else 4,
        rowwise=rowwise, residual=False, threads=threads,
    )  # fmt: skip
    for positions in (*range(16, 120, 1 if threads == 2 else 7), 199, 256, 420):
        for batch in (1, 3):
            check(run, rng, weights, family, batch, positions)


@pytest.mark.parametrize("number", range(2 * len(INT8) + 1))
@pytest.mark.parametrize("threads", [1, 2])
def test_products_of_integers(threads, number, int8_library):
    """Equal to float64 products of what was rounded: rounding itself is the only difference."""
    made, path = int8_library
    family, rng = made[number], np.random.default_rng(number)
    weights = draw_integers(rng, family.rows, 5, 64, 0.4)
    residual = family.tiles[0].residual
    run = session(path, number, weights, 2, rowwise=True, residual=residual, threads=threads)
    largest = family.tiles[0].tile
    for positions in (1, 2, largest - 1, largest, largest + 1, 33, 420):
        x = rng.standard_normal((max(1, positions), 64)).astype(np.float32)
        feed, added = {"x": x}, None
        if residual:
            added = rng.standard_normal((len(x), len(weights.dense))).astype(np.float32)
            feed["added"] = added
        (got,) = run.run(None, feed)
        activations, scale = rounded_rows(x.astype(np.float64))
        activation = family.tiles[0].activation
        expected = reference(weights, activations, activation, added, rowwise=True)
        # A tie may be rounded the other way, by one step of one activation.
        step = float(scale.max() * np.abs(weights.dense).max())
        np.testing.assert_allclose(got, expected, rtol=0, atol=1.2 * step)
        assert np.mean(np.abs(got - expected) > ROUNDING_SINGLE) < 0.01


def test_inputs_that_do_not_come_in_sixteens_are_refused(int8_library):
    _, path = int8_library
    weights = draw_integers(np.random.default_rng(0), 16, 3, 24, 0.4)
    run = session(path, 0, weights, 2, rowwise=True, residual=False)
    with pytest.raises(Exception, match="not prepared for 8 bits"):
        run.run(None, {"x": np.zeros((2, 24), np.float32)})


def test_a_target_without_dot_products_is_refused():
    with pytest.raises(TargetError, match="no dot products"):
        RowwiseInt8(32).lower(find_target("x86-64-v3"))


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_empty_and_full_weights(density, library):
    made, path = library
    rng = np.random.default_rng(0)
    weights = draw(rng, made[0].rows, 3, 11, density)
    run = session(path, 0, weights, 4, rowwise=False, residual=False)
    check(run, rng, weights, made[0], 2, 21)


def test_no_positions(library):
    _, path = library
    weights = draw(np.random.default_rng(0), 4, 3, 11, 0.5)
    run = session(path, 0, weights, 4, rowwise=False, residual=False)
    (got,) = run.run(None, {"x": np.zeros((0, 11, 3, 3), np.float32)})
    assert got.shape == (0, 12, 3, 3)


def test_weights_for_another_kernel_are_refused(library):
    made, path = library
    number = next(i for i, f in enumerate(made) if f.rows == 8)
    weights = draw(np.random.default_rng(0), 4, 3, 11, 0.5)
    run = session(path, number, weights, 4, rowwise=False, residual=False)
    with pytest.raises(Exception, match="weights and kernel do not match"):
        run.run(None, {"x": np.zeros((1, 11, 3, 3), np.float32)})


def test_a_kernel_that_the_library_lacks(library):
    made, path = library
    weights = draw(np.random.default_rng(0), 4, 3, 11, 0.5)
    with pytest.raises(Exception, match="no such kernel"):
        session(path, len(made), weights, 4, rowwise=False, residual=False)


def test_an_old_runtime_is_told_to_upgrade(library):
    """`GetApi` of a release that does not have the version returns NULL."""
    _, path = library
    said = []
    create = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)(
        lambda code, message: said.append(message.decode()) or 1
    )
    oldest = (ctypes.c_void_p * 1)(ctypes.cast(create, ctypes.c_void_p))
    get = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)(
        lambda version: ctypes.addressof(oldest) if version == 1 else None
    )
    base = (ctypes.c_void_p * 2)(ctypes.cast(get, ctypes.c_void_p), None)
    register = ctypes.CDLL(str(path)).RegisterCustomOps
    register.argtypes, register.restype = [ctypes.c_void_p] * 2, ctypes.c_void_p
    assert register(None, ctypes.addressof(base))
    assert "1.18 or newer" in said[0]


def test_unknown_targets_activations_and_sizes():
    with pytest.raises(TargetError, match=r"there is no target 'sparc'(.|\n)*x86-64-v4"):
        find_target("sparc")
    with pytest.raises(ValueError, match="no activation 'swish'"):
        SpatialTile(4, 16, 1, "swish")
    with pytest.raises(ValueError, match="bytes of accumulators"):
        RowwiseTile(64, 4)
    assert set(ACTIVATIONS) == {"", "relu", "relu6", "silu", "hardswish", "gelu"}


def test_a_missing_compiler_is_named(tmp_path):
    target = host()
    platform = dataclasses.replace(target.platform, compiler="no-such-cc")
    target = dataclasses.replace(target, platform=platform)
    with pytest.raises(TargetError, match="no-such-cc is not installed"):
        build_library([Spatial(4).lower(target)], target, tmp_path / "a.so")
    assert not list(tmp_path.iterdir())
