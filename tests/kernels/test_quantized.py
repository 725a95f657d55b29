"""Convolutions of bytes are exact: every byte is that of a reference by integers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

from onnx import TensorProto, helper, numpy_helper

from autoprune.passes.kernels.build import build_library
from autoprune.passes.kernels.cpu.depthwise_bytes import DepthwiseBytes
from autoprune.passes.kernels.cpu.spatial_int8 import SpatialBytes, SpatialInt8
from autoprune.passes.kernels.geometry import Geometry
from tests.kernels.quantized import (
    Depthwise,
    bytes_of,
    draw_bytes,
    draw_depthwise,
    draw_quantized,
    expected,
    pooled,
    words,
)
from tests.kernels.test_convolutions import GEOMETRIES, SIZES, convolved, fits
from tests.kernels.test_operators import open_session, with_dot_products
from tests.tolerance import ROUNDING_SINGLE

KINDS = (("", False), ("", True), ("silu", True))
NUMBERS = np.array([0.25, 16, 40.5], np.float32)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """With and without a residual, and with an activation."""
    target = with_dot_products()
    path = tmp_path_factory.mktemp("quantized") / "operators.so"
    made = [SpatialBytes(a, residual=r).lower(target) for a, r in KINDS]
    made.append(SpatialInt8(4, "relu6").lower(target))
    made += [DepthwiseBytes(g, a).lower(target) for g in GEOMETRIES for a in ("", "silu")]
    build_library(made, target, path)
    return path, target.dot.offset


def run(path, kind, tensors, activations, settings, threads=1):
    """An operator on arrays; `added` comes last."""
    order = sorted({**tensors, **activations}, key=lambda name: name == "added")
    order = ["x", *(n for n in [*tensors, *activations] if n not in ("x", "added"))]
    order += ["added"] * ("added" in activations)
    node = helper.make_node(kind, order, ["y"], domain="autoprune", **settings)
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int32): TensorProto.INT32}
    values = [
        helper.make_tensor_value_info(n, kinds[a.dtype], a.shape) for n, a in activations.items()
    ]
    floats = kind in ("Dequantize", "SparseConvInt8")
    made = TensorProto.FLOAT if floats else TensorProto.INT32
    graph = helper.make_graph(
        [node], "one", values, [helper.make_tensor_value_info("y", made, None)],
        [numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in tensors.items()],
    )  # fmt: skip
    (got,) = open_session(graph, path, threads).run(None, activations)
    return got


def convolve(library, rng, weights, shape, geometry, place, threads):
    """Compare what comes out of random bytes with what should."""
    path, offset = library
    depthwise = isinstance(weights, Depthwise)
    activation, residual = (
        (("", "silu")[(place - len(KINDS) - 1) % 2], False) if depthwise else KINDS[place]
    )
    x, zero = draw_bytes(rng, shape), int(rng.integers(0, 256))
    feed, added = {"x": words(x, offset)}, None
    if residual:
        plain = expected(weights, x, zero, geometry)
        added = draw_bytes(rng, plain.shape)
        feed["added"] = words(added, offset)
    if activation:
        # Small numbers, at which the activation is curved.
        weights = type(weights)(weights.whole, weights.scale / 64, weights.bias / 64 - 2)
    wanted = expected(weights, x, zero, geometry, activation, added, NUMBERS)
    tensors = {**weights.tensors(), "numbers": NUMBERS}
    settings = {"kernel": place, "zero": zero, **geometry.attributes()}
    kind = "QuantizedDepthwise" if depthwise else "QuantizedConv"
    got = bytes_of(run(path, kind, tensors, feed, settings, threads), offset)
    agree(got, wanted, activation)


def agree(got, wanted, activation):
    if not activation:
        np.testing.assert_array_equal(got, wanted)
        return
    # A number that float32 rounds to the other side of a border makes the next byte.
    apart = np.abs(got.astype(int) - wanted)
    assert apart.max(initial=0) <= 1
    assert np.mean(apart) < 0.01


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("geometry", [Geometry(), *GEOMETRIES], ids=str)
def test_sparse_convolutions(geometry, threads, library):
    rng = np.random.default_rng(threads)
    sizes = [*SIZES, (1, 16), (6, 8), (40, 41)]
    for number, size in enumerate(s for s in sizes if fits(geometry, s)):
        weights = draw_quantized(rng, 5, 24, geometry.kernel)
        place = number % len(KINDS)
        convolve(library, rng, weights, (2, 24, *size), geometry, place, threads)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_depthwise_convolutions(geometry, threads, library):
    rng = np.random.default_rng(threads)
    first = len(KINDS) + 1 + 2 * GEOMETRIES.index(geometry)
    for size in (s for s in [*SIZES, (6, 8), (40, 41)] if fits(geometry, s)):
        for place in (first, first + 1):
            weights = draw_depthwise(rng, 20, geometry.kernel)
            convolve(library, rng, weights, (3, 20, *size), geometry, place, threads)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_pooling(geometry, threads, library):
    path, offset = library
    rng = np.random.default_rng(threads)
    settings = {"kernel": 0, "zero": 0, **geometry.attributes()}
    for size in (s for s in [*SIZES, (6, 8), (112, 112)] if fits(geometry, s)):
        x = draw_bytes(rng, (3, 20, *size))
        feed = {"x": words(x, offset)}
        if geometry.dilation != (1, 1):
            with pytest.raises(Exception, match="pooling has no dilation"):
                run(path, "QuantizedMaxPool", {}, feed, settings, threads)
            continue
        got = run(path, "QuantizedMaxPool", {}, feed, settings, threads)
        np.testing.assert_array_equal(bytes_of(got, offset), pooled(x, geometry))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_number_of_positions(threads, library):
    """A decomposition into tiles can be wrong for one size and one number of threads only."""
    rng = np.random.default_rng(threads)
    weights = draw_quantized(rng, 6, 300, (1, 1))
    for positions in (*range(1, 120, 1 if threads == 2 else 7), 199, 256):
        shape = (1 + positions % 2, 300, 1, positions)
        convolve(library, rng, weights, shape, Geometry(), 0, threads)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_convolutions_of_what_is_rounded_first(geometry, threads, library):
    """By the largest number of each image."""
    path, _ = library
    rng = np.random.default_rng(threads)
    for size in (s for s in SIZES if fits(geometry, s)):
        weights = draw_quantized(rng, 5, 12, geometry.kernel)
        whole = rng.integers(-126, 127, (3, 12, *size)).astype(np.float64)
        x = whole + rng.uniform(-0.4, 0.4, whole.shape)
        x[:, 0, 0, 0] = whole[:, 0, 0, 0] = 127
        steps = np.array([1 / 64, 2, 1 / 1024]).reshape(3, 1, 1, 1)
        dense = weights.whole * weights.scale[:, None, None, None].astype(np.float64)
        wanted = np.clip(convolved(whole * steps, dense, weights.bias, geometry), 0, 6)
        settings = {"kernel": len(KINDS), **geometry.attributes()}
        feed = {"x": (x * steps).astype(np.float32)}
        got = run(path, "SparseConvInt8", weights.tensors(), feed, settings, threads)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=ROUNDING_SINGLE * 6)


@pytest.mark.parametrize(
    "shape",
    [(1, 4, 1, 1), (2, 12, 5, 7), (1, 64, 33, 20), (3, 8), (2, 3, 9, 9), (3, 70, 4, 5)],
    ids=str,
)
def test_between_floats_and_bytes(shape, library):
    path, offset = library
    rng = np.random.default_rng(0)
    # Also of numbers that no byte stands for. A power of two, so that none is near a border.
    step, zero = 1 / 32, 77
    whole = rng.integers(-200, 400, shape)
    x = ((whole + rng.uniform(-0.4, 0.4, shape)) * step).astype(np.float32)
    numbers = {"numbers": np.array([step, zero], np.float32)}
    wanted = np.clip(whole + zero, 0, 255).astype(np.uint8)
    got = run(path, "Quantize", numbers, {"x": x}, {"kernel": 0}, 2)
    assert got.shape[1] == -(-shape[1] // 4)
    np.testing.assert_array_equal(bytes_of(got, offset)[:, : shape[1]], wanted)
    back = run(path, "Dequantize", numbers, {"x": got}, {"kernel": 0}, 2)[:, : shape[1]]
    np.testing.assert_array_equal(back, (wanted.astype(np.float32) - zero) * np.float32(step))


@pytest.mark.parametrize("kind", ["numbers", "sums"])
def test_what_does_not_fit_is_refused(kind, library):
    path, offset = library
    weights = draw_quantized(np.random.default_rng(0), 3, 8, (1, 1))
    tensors = {**weights.tensors(), "numbers": NUMBERS}
    settings = {"kernel": 0, "zero": 0, **Geometry().attributes()}
    feed = {"x": words(np.zeros((1, 8, 3, 3), np.uint8), offset)}
    tensors[kind] = tensors[kind][:-1]
    with pytest.raises(Exception, match="not prepared for 8 bits"):
        run(path, "QuantizedConv", tensors, feed, settings)
