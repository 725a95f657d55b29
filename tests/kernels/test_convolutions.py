"""Convolutions of every geometry against float64, alone and fused with a depthwise one."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F

from autoprune.passes.kernels.build import build_library
from autoprune.passes.kernels.cpu.depthwise import Depthwise
from autoprune.passes.kernels.cpu.spatial import Spatial
from autoprune.passes.kernels.cpu.spatial_int8 import SpatialInt8
from autoprune.passes.kernels.geometry import Geometry
from tests.kernels.blocks import ACTIVATIONS, draw, draw_integers
from tests.kernels.test_operators import host, open_session, with_dot_products
from tests.tolerance import ROUNDING_SINGLE

GEOMETRIES = [
    Geometry((3, 3), begin=(1, 1), end=(1, 1)),
    Geometry((3, 3), (2, 2), begin=(1, 1), end=(1, 1)),
    Geometry((3, 3), (2, 2), begin=(0, 0), end=(1, 1)),
    Geometry((5, 5), begin=(2, 2), end=(2, 2)),
    Geometry((1, 3), begin=(0, 1), end=(0, 1)),
    Geometry((3, 2), (1, 3), begin=(2, 0), end=(0, 1)),
    Geometry((3, 3), dilation=(2, 2), begin=(2, 2), end=(2, 2)),
    Geometry((3, 3), (2, 2), (2, 3), begin=(1, 2), end=(3, 1)),
    Geometry((2, 2), (2, 2)),
    Geometry((1, 1), (2, 2)),
    Geometry((1, 1), begin=(1, 1), end=(1, 1)),
]
SIZES = [(1, 1), (3, 5), (7, 7), (14, 15), (33, 20)]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Spatial products in blocks of 1, 4 and 8, with and without a residual and an activation."""
    target = host()
    path = tmp_path_factory.mktemp("convolutions") / "operators.so"
    made = {
        (rows, activation, residual): Spatial(rows, activation, residual=residual).lower(target)
        for rows in (1, 4, 8)
        for activation, residual in (("", False), ("relu6", False), ("silu", True))
    }
    made |= {
        geometry: Depthwise(geometry, "relu6").lower(target)
        for geometry in GEOMETRIES
        if geometry.gap is not None
    }
    build_library(list(made.values()), target, path)
    return {kind: place for place, kind in enumerate(made)}, path


def convolved(x, weight, bias, geometry, groups=1):
    (top, left), (bottom, right) = geometry.begin, geometry.end
    padded = F.pad(torch.from_numpy(x).double(), (left, right, top, bottom))
    return F.conv2d(
        padded, torch.from_numpy(weight).double(), torch.from_numpy(bias).double(),
        geometry.stride, 0, geometry.dilation, groups,
    ).numpy()  # fmt: skip


def fits(geometry, size):
    return all(
        size[d] + geometry.begin[d] + geometry.end[d]
        >= geometry.dilation[d] * (geometry.kernel[d] - 1) + 1
        for d in (0, 1)
    )


def run(path, kind, tensors, activations, settings, threads=1):
    inputs = [*activations, *tensors]
    if "added" in activations:
        inputs = ["x", *tensors, "added"]
    node = helper.make_node(kind, inputs, ["y"], domain="autoprune", **settings)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
        for name, array in activations.items()
    ]
    graph = helper.make_graph(
        [node], "one", values, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in tensors.items()],
    )  # fmt: skip
    (got,) = open_session(graph, path, threads).run(None, activations)
    return got


def sparse_tensors(weights):
    names = ("values", "index", "offsets", "bias", "scales", "sums")
    return {name: getattr(weights, name) for name in names if hasattr(weights, name)}


def agree(got, expected):
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING_SINGLE * scale / 10)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_sparse_convolutions(geometry, threads, library):
    kinds, path = library
    rng = np.random.default_rng(threads)
    for number, size in enumerate(s for s in SIZES if fits(geometry, s)):
        rows = (1, 4, 8)[number % 3]
        activation, residual = (("", False), ("relu6", False), ("silu", True))[(number + 1) % 3]
        weights = draw(rng, rows, 5, 6 * geometry.taps, 0.4)
        x = rng.standard_normal((2, 6, *size)).astype(np.float32)
        dense = weights.dense.reshape(-1, 6, *geometry.kernel)
        expected = convolved(x, dense, weights.bias.reshape(-1), geometry)
        feed = {"x": x}
        if residual:
            feed["added"] = rng.standard_normal(expected.shape).astype(np.float32)
            expected = expected + feed["added"]
        settings = {"kernel": kinds[rows, activation, residual], **geometry.attributes()}
        got = run(path, "SparseConv", sparse_tensors(weights), feed, settings, threads)
        agree(got, ACTIVATIONS[activation](expected))


def widened(x, gap):
    """With anything between the rows."""
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, gap)], constant_values=7.0)


def narrowed(y, gap):
    return y[..., : y.shape[-1] - gap]


@pytest.mark.parametrize("more", [0, 2])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("geometry", [g for g in GEOMETRIES if g.gap is not None], ids=str)
def test_depthwise_convolutions(geometry, threads, more, library):
    """Alone, and fused with the sparse product before it; with the least gap and a larger one."""
    kinds, path = library
    rng, gap = np.random.default_rng(threads), geometry.gap + more
    for size in (s for s in SIZES if fits(geometry, s)):
        rows, channels = 4, 20
        weights = draw(rng, rows, channels // rows, 7, 0.4)
        taps = rng.standard_normal((channels, geometry.taps)).astype(np.float32)
        shift = rng.standard_normal(channels).astype(np.float32)
        depthwise = {"taps": taps, "shift": shift}
        settings = {"depthwise": kinds[geometry], "gap": gap, "x_gap": gap, **geometry.attributes()}
        kernel = taps.reshape(channels, 1, *geometry.kernel)

        x = rng.standard_normal((3, channels, *size)).astype(np.float32)
        expected = np.clip(convolved(x, kernel, shift, geometry, channels), 0, 6)
        got = run(path, "DepthwiseConv", depthwise, {"x": widened(x, gap)}, settings, threads)
        agree(narrowed(got, gap), expected)
        got = run(path, "DepthwiseConv", depthwise, {"x": x}, {**settings, "x_gap": 0}, threads)
        agree(narrowed(got, gap), expected)

        x = rng.standard_normal((2, 7, *size)).astype(np.float32)
        wide = convolved(x, weights.dense[..., None, None], weights.bias.reshape(-1), Geometry())
        wide = np.clip(wide, 0, 6).astype(np.float32)
        expected = np.clip(convolved(wide, kernel, shift, geometry, channels), 0, 6)
        tensors = {**sparse_tensors(weights), **depthwise}
        settings["kernel"] = kinds[rows, "relu6", False]
        feed = {"x": widened(x, gap)}
        got = run(path, "SparseConvDepthwise", tensors, feed, settings, threads)
        agree(narrowed(got, gap), expected)


@pytest.fixture(scope="module")
def int8_library(tmp_path_factory):
    """Spatial products of 8-bit integers, and depthwise convolutions for after them."""
    target = with_dot_products()
    path = tmp_path_factory.mktemp("int8") / "operators.so"
    made = {
        (rows, activation, residual): SpatialInt8(rows, activation, residual=residual).lower(target)
        for rows in (4, 8)
        for activation, residual in (("relu6", False), ("", True))
    }
    made |= {g: Depthwise(g, "relu6").lower(target) for g in GEOMETRIES if g.gap is not None}
    build_library(list(made.values()), target, path)
    return {kind: place for place, kind in enumerate(made)}, path


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [4, 8])
def test_pointwise_convolutions_of_integers(rows, threads, int8_library):
    """What is rounded is multiplied exactly."""
    kinds, path = int8_library
    rng = np.random.default_rng(rows)
    for size in [*SIZES, (1, 16), (40, 41)]:
        weights = draw_integers(rng, rows, 5, 24, 0.4)
        # Integers times a power of two, so that no number is near a tie.
        x = rng.integers(-127, 128, (3, 24, *size)).astype(np.float32) / 64
        x[:, 0, 0, 0] = 127 / 64
        feed = {"x": x, "added": rng.standard_normal((3, 5 * rows, *size)).astype(np.float32)}
        expected = convolved(
            x, weights.dense[..., None, None], weights.bias.reshape(-1), Geometry()
        )
        for activation, residual in (("relu6", False), ("", True)):
            settings = {"kernel": kinds[rows, activation, residual], **Geometry().attributes()}
            given = feed if residual else {"x": x}
            got = run(path, "SparseConvInt8", sparse_tensors(weights), given, settings, threads)
            wanted = expected + feed["added"] if residual else np.clip(expected, 0, 6)
            agree(got, wanted)


def test_any_numbers_are_rounded(int8_library):
    """To within half a step of the largest of the image, also where all are zero."""
    kinds, path = int8_library
    rng = np.random.default_rng(0)
    weights = draw_integers(rng, 8, 5, 24, 0.4)
    x = rng.standard_normal((2, 24, 7, 9)).astype(np.float32) * np.float32([[[[3]]], [[[0]]]])
    x[0] *= 1e3
    settings = {"kernel": kinds[8, "", True], **Geometry().attributes()}
    feed = {"x": x, "added": np.zeros((2, 40, 7, 9), np.float32)}
    got = run(path, "SparseConvInt8", sparse_tensors(weights), feed, settings)
    kernel = weights.dense[..., None, None]
    expected = convolved(x, kernel, weights.bias.reshape(-1), Geometry())
    step = np.abs(x[0]).max() / 127
    most = 0.51 * step * np.abs(weights.dense).sum(axis=1).max()
    assert np.abs(got - expected)[0].max() <= most
    agree(got[1], expected[1])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("geometry", [g for g in GEOMETRIES if g.gap is not None], ids=str)
def test_depthwise_convolutions_of_integers(geometry, threads, int8_library):
    kinds, path = int8_library
    rng, gap = np.random.default_rng(threads), geometry.gap
    for size in (s for s in SIZES if fits(geometry, s)):
        channels = 20
        weights = draw_integers(rng, 4, channels // 4, 8, 0.4)
        taps = rng.standard_normal((channels, geometry.taps)).astype(np.float32)
        shift = rng.standard_normal(channels).astype(np.float32)
        x = rng.integers(-127, 128, (2, 8, *size)).astype(np.float32) / 64
        x[:, 0, 0, 0] = 127 / 64
        wide = convolved(x, weights.dense[..., None, None], weights.bias.reshape(-1), Geometry())
        wide = np.clip(wide, 0, 6).astype(np.float32)
        kernel = taps.reshape(channels, 1, *geometry.kernel)
        expected = np.clip(convolved(wide, kernel, shift, geometry, channels), 0, 6)
        tensors = {**sparse_tensors(weights), "taps": taps, "shift": shift}
        settings = {
            "kernel": kinds[4, "relu6", False], "depthwise": kinds[geometry], "gap": gap,
            "x_gap": gap, **geometry.attributes(),
        }  # fmt: skip
        feed = {"x": np.pad(x, [(0, 0)] * 3 + [(0, gap)], constant_values=0.5)}
        got = run(path, "SparseConvDepthwiseInt8", tensors, feed, settings, threads)
        agree(narrowed(got, gap), expected)


def test_a_wide_convolution_in_many_jobs(library):
    """Channels of a job are limited by the cache, and the last job may have fewer."""
    kinds, path = library
    rng, geometry = np.random.default_rng(0), GEOMETRIES[1]
    weights = draw(rng, 8, 13, 5, 0.5)
    taps = rng.standard_normal((104, 9)).astype(np.float32)
    tensors = {**sparse_tensors(weights), "taps": taps, "shift": np.zeros(104, np.float32)}
    settings = {
        "kernel": kinds[8, "", False], "depthwise": kinds[geometry], "gap": 1,
        "x_gap": 1, **geometry.attributes(),
    }  # fmt: skip
    x = rng.standard_normal((1, 5, 90, 91)).astype(np.float32)
    wide = convolved(x, weights.dense[..., None, None], weights.bias.reshape(-1), Geometry())
    expected = convolved(wide.astype(np.float32), taps.reshape(104, 1, 3, 3), tensors["shift"],
                         geometry, 104)  # fmt: skip
    expected = np.clip(expected, 0, 6)
    got = run(path, "SparseConvDepthwise", tensors, {"x": widened(x, 1)}, settings, 2)
    agree(narrowed(got, 1), expected)


def test_rows_move_apart_and_together(library):
    _, path = library
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 9)).astype(np.float32)
    apart = run(path, "Widen", {}, {"x": x}, {"gap": 2})
    np.testing.assert_array_equal(apart, np.pad(x, [(0, 0)] * 3 + [(0, 2)]))
    np.testing.assert_array_equal(run(path, "Narrow", {}, {"x": apart}, {"gap": 2}), x)


def test_an_output_without_positions(library):
    kinds, path = library
    weights = draw(np.random.default_rng(0), 4, 2, 2 * 9, 0.5)
    settings = {"kernel": kinds[4, "", False], **Geometry((3, 3)).attributes()}
    feed = {"x": np.zeros((1, 2, 2, 9), np.float32)}
    assert run(path, "SparseConv", sparse_tensors(weights), feed, settings).size == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"taps": np.zeros((8, 4), np.float32)}, "weights and kernel do not match"),
        ({"stride_w": 0}, "out of range"),
        ({"begin_h": -1}, "out of range"),
        ({"gap": -1}, "out of range"),
        ({"gap": 0}, "gap is too small"),
        ({"end_w": 0}, "the width changes"),
        ({"depthwise": 99}, "no such kernel"),
        ({"x": np.zeros((1, 7, 5, 5), np.float32)}, "another number of channels"),
        ({"x": np.zeros((1, 8, 5), np.float32)}, "needs 4 dimensions"),
    ],
)
def test_what_does_not_fit_is_refused(change, message, library):
    kinds, path = library
    geometry = GEOMETRIES[0]
    tensors = {"taps": np.zeros((8, 9), np.float32), "shift": np.zeros(8, np.float32)}
    settings = {"depthwise": kinds[geometry], "gap": 1, "x_gap": 0, **geometry.attributes()}
    feed = {"x": np.zeros((1, 8, 5, 5), np.float32)}
    for part in (tensors, settings, feed):
        part.update({name: value for name, value in change.items() if name in part})
    with pytest.raises(Exception, match=message):
        run(path, "DepthwiseConv", tensors, feed, settings)
