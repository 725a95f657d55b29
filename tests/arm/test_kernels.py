"""Kernels for arm64 against float64 products, on the least processor that each is meant for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

from autoprune.passes.kernels.build import build_library
from autoprune.passes.kernels.cpu.depthwise import Depthwise
from autoprune.passes.kernels.cpu.rowwise import Rowwise
from autoprune.passes.kernels.cpu.rowwise_int8 import RowwiseInt8
from autoprune.passes.kernels.cpu.scattered import Scattered
from autoprune.passes.kernels.cpu.spatial import Spatial, SpatialTile
from autoprune.passes.kernels.geometry import Geometry
from autoprune.passes.kernels.kernel import Lowered
from autoprune.passes.kernels.target import TARGETS, Target
from tests.arm.cases import Case, Refused, build_driver, run_cases
from tests.arm.emulator import CPUS, least_cpu, need_tools
from tests.kernels.blocks import ACTIVATIONS, draw, draw_integers, reference
from tests.kernels.quantized import cases_of, compare_bytes, families_of
from tests.kernels.test_convolutions import GEOMETRIES, SIZES, convolved, fits
from tests.tolerance import ROUNDING_SINGLE

ARM = {name: target for name, target in TARGETS.items() if target.machine == "arm64"}
WITH_DOT = [name for name, target in ARM.items() if target.dot is not None]

SPATIAL = [(4, ""), (4, "relu6"), (8, "gelu"), (8, "hardswish"), (16, "silu")]
ROWWISE = [(8, "hardswish"), (16, "relu"), (32, "gelu"), (64, "")]


@dataclasses.dataclass(frozen=True)
class Built:
    """A library for a target, its families, and the driver that runs it."""

    target: Target
    families: list[Lowered]
    library: object
    driver: object

    def run(self, cases, folder):
        return run_cases(least_cpu(self.target.features), self.driver, self.library, cases, folder)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """A library of the families that a function makes for a target."""
    need_tools()
    folder = tmp_path_factory.mktemp("arm")

    def built(target, families):
        build_driver(target, folder / "driver")
        build_library(families, target, folder / "operators.so")
        return Built(target, families, folder / "operators.so", folder / "driver")

    return built


def tails(family):
    """Numbers of positions around the sizes of tiles, and enough for several jobs."""
    tiles = {kernel.tile for kernel in family.tiles}
    around = {size + more for size in tiles for more in (-1, 0, 1)}
    return sorted({1, 2, 3, 5, 7, 17, 2 * max(tiles) + 3, 196, *around} - {0})


def product(number, family, weights, batch, positions, rng, *, scattered=False):
    """A case of an operator with random activations, and what it should return, in float64."""
    kernel, int8 = family.tiles[0], family.quantize is not None
    rowwise = scattered or not isinstance(kernel, SpatialTile)
    outputs, inputs = weights.dense.shape
    shape = (batch, positions, inputs) if rowwise else (batch, inputs, positions)
    after = (batch, positions, outputs) if rowwise else (batch, outputs, positions)
    x, rounded = far_from_ties(rng, shape) if int8 else [floats(rng, shape)] * 2
    added = floats(rng, after) if kernel.residual else None
    name = ("SparseLinear" if rowwise else "SparseConv") + "Int8" * int8 + "Scattered" * scattered
    settings = {"kernel": number} | ({} if rowwise else Geometry().attributes())
    case = Case(name, settings, [x, *sparse_tensors(weights), added])
    return case, reference(weights, rounded, kernel.activation, added, rowwise=rowwise)


def floats(rng, shape):
    return rng.standard_normal(shape).astype(np.float32)


def far_from_ties(rng, shape):
    """Activations whose rounding to 8 bits is certain, and what they are rounded to."""
    whole = rng.integers(-126, 127, shape).astype(np.float64)
    x = whole + rng.uniform(-0.4, 0.4, shape)
    x[..., 0] = whole[..., 0] = 127
    scales = rng.uniform(0.5, 2, (*shape[:-1], 1)) / 127
    return (x * scales).astype(np.float32), whole * scales


def compare(results, cases, expected):
    for case, got, wanted in zip(cases, results, expected, strict=True):
        assert not isinstance(got, Refused), f"{case}: {got}"
        scale = max(1.0, float(np.abs(wanted).max()))
        limit = ROUNDING_SINGLE * scale / 10
        np.testing.assert_allclose(got, wanted, rtol=0, atol=limit, err_msg=str(case))


@pytest.mark.parametrize("name", ARM)
def test_products_of_floats(name, build, tmp_path):
    """In memory that ends with the tensors, on every tail, with batches, and with many jobs."""
    made = [
        kernel(rows, activation, residual).lower(ARM[name])
        for residual in (False, True)
        for kernel, kinds in ((Spatial, SPATIAL), (Rowwise, ROWWISE))
        for rows, activation in kinds
    ]
    built, rng, found = build(ARM[name], made), np.random.default_rng(0), []
    for number, family in enumerate(made):
        small = draw(rng, family.rows, 5, 13, 0.4)
        large = draw(rng, family.rows, 6, 300, 0.5)
        sizes = [(small, 1, n) for n in tails(family)]
        for weights, batch, positions in (*sizes, (small, 3, 7), (large, 2, 49)):
            found.append(product(number, family, weights, batch, positions, rng))
    cases, expected = zip(*found, strict=True)
    compare(built.run(cases, tmp_path), cases, expected)


@pytest.mark.parametrize("name", ARM)
def test_linear_layers_of_single_weights(name, build, tmp_path):
    made = [Scattered("gelu", residual=residual).lower(ARM[name]) for residual in (False, True)]
    rng, found = np.random.default_rng(0), []
    for number, family in enumerate(made):
        small, large = draw(rng, 1, 37, 13, 0.4), draw(rng, 1, 50, 300, 0.2)
        for weights, positions in (*((small, n) for n in tails(family)), (large, 129)):
            case = product(number, family, weights, 2, positions, rng, scattered=True)
            found.append(case)
    cases, expected = zip(*found, strict=True)
    compare(build(ARM[name], made).run(cases, tmp_path), cases, expected)


@pytest.mark.parametrize("name", ARM)
def test_sparse_convolutions(name, build, tmp_path):
    family = Spatial(4, "silu", residual=True).lower(ARM[name])
    rng, found = np.random.default_rng(0), []
    for geometry in GEOMETRIES:
        for size in (size for size in SIZES if fits(geometry, size)):
            weights, x = draw(rng, 4, 5, 6 * geometry.taps, 0.4), floats(rng, (2, 6, *size))
            dense = weights.dense.reshape(-1, 6, *geometry.kernel)
            wanted = convolved(x, dense, weights.bias.reshape(-1), geometry)
            added = floats(rng, wanted.shape)
            inputs = [x, *sparse_tensors(weights), added]
            case = Case("SparseConv", {"kernel": 0, **geometry.attributes()}, inputs)
            found.append((case, ACTIVATIONS["silu"](wanted + added)))
    cases, expected = zip(*found, strict=True)
    compare(build(ARM[name], [family]).run(cases, tmp_path), cases, expected)


@pytest.mark.parametrize("name", ARM)
def test_depthwise_convolutions(name, build, tmp_path):
    """Alone, and fused with the sparse product before it, whatever is between rows."""
    geometries = [geometry for geometry in GEOMETRIES if geometry.gap is not None]
    made = [Depthwise(geometry, "relu6").lower(ARM[name]) for geometry in geometries]
    made.append(Spatial(4, "relu6").lower(ARM[name]))
    rng, found, gaps = np.random.default_rng(0), [], []
    for number, geometry in enumerate(geometries):
        for size in (size for size in SIZES if fits(geometry, size)):
            for gap in (geometry.gap, geometry.gap + 2):
                settings = {"depthwise": number, "gap": gap, **geometry.attributes()}
                apart = {**settings, "x_gap": gap}
                found.append(depthwise(rng, geometry, size, {**settings, "x_gap": 0}))
                found.append(depthwise(rng, geometry, size, apart))
                found.append(fused(rng, geometry, size, {**apart, "kernel": len(geometries)}))
                gaps += [gap] * 3
    cases, expected = zip(*found, strict=True)
    results = build(ARM[name], made).run(cases, tmp_path)
    compare(map(narrowed, results, gaps), cases, expected)


def depthwise(rng, geometry, size, settings):
    x, taps, shift = (floats(rng, shape) for shape in ((3, 8, *size), (8, geometry.taps), 8))
    case = Case("DepthwiseConv", settings, [widened(x, settings["x_gap"]), taps, shift])
    return case, by_channel(x, taps, shift, geometry)


def fused(rng, geometry, size, settings):
    weights, x = draw(rng, 4, 5, 7, 0.4), floats(rng, (2, 7, *size))
    taps, shift = floats(rng, (20, geometry.taps)), floats(rng, 20)
    between = reference(weights, x, "relu6", rowwise=False).astype(np.float32)
    inputs = [widened(x, settings["x_gap"]), *sparse_tensors(weights), taps, shift]
    return Case("SparseConvDepthwise", settings, inputs), by_channel(between, taps, shift, geometry)


def by_channel(x, taps, shift, geometry):
    kernel = taps.reshape(len(taps), 1, *geometry.kernel)
    return ACTIVATIONS["relu6"](convolved(x, kernel, shift, geometry, len(taps)))


def widened(x, gap):
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, gap)], constant_values=np.nan)


def narrowed(y, gap):
    return y if isinstance(y, Refused) else y[..., : y.shape[-1] - gap]


def sparse_tensors(weights):
    return [array for name, array in vars(weights).items() if name != "dense"]


@pytest.mark.parametrize("name", WITH_DOT)
def test_products_of_integers(name, build, tmp_path):
    made = [
        RowwiseInt8(rows, activation, residual=residual).lower(ARM[name])
        for residual in (False, True)
        for rows in (8, 16, 32, 64)
        for activation in ("", "gelu")
    ]
    built, rng, found = build(ARM[name], made), np.random.default_rng(0), []
    for number, family in enumerate(made):
        small = draw_integers(rng, family.rows, 5, 64, 0.4)
        large = draw_integers(rng, family.rows, 6, 304, 0.5)
        for weights, positions in (*((small, n) for n in tails(family)), (large, 49)):
            found.append(product(number, family, weights, 1, positions, rng))
    cases, expected = zip(*found, strict=True)
    compare(built.run(cases, tmp_path), cases, expected)


@pytest.mark.parametrize("name", WITH_DOT)
def test_convolutions_of_bytes(name, build, tmp_path):
    target, rng = ARM[name], np.random.default_rng(0)
    geometries = [Geometry(), *GEOMETRIES]

    def sizes(geometry):
        return [size for size in [*SIZES, (6, 8)] if fits(geometry, size)]

    found = list(cases_of(rng, target.dot.offset, geometries, sizes))
    built = build(target, families_of(target, geometries))
    results = built.run([case for case, _ in found], tmp_path)
    compare_bytes(results, found, target.dot.offset)


def test_what_does_not_fit_is_refused(build, tmp_path):
    built, rng = build(ARM["arm64"], [Spatial(8).lower(ARM["arm64"])]), np.random.default_rng(0)
    right, wrong = (draw(rng, rows, 3, 11, 0.5) for rows in (8, 4))
    cases = [
        product(number, built.families[0], weights, 2, 9, rng)[0]
        for number, weights in ((0, wrong), (1, right), (0, right))
    ]
    other, absent, fits = built.run(cases, tmp_path)
    assert other == Refused("autoprune: weights and kernel do not match")
    assert absent == Refused("autoprune: the library has no such kernel")
    assert fits.shape == (2, 24, 9)


def test_an_emulated_processor_has_no_more_than_it_should(build, tmp_path):
    """Otherwise the tests above would not show that a library keeps to its features."""
    target = ARM["arm64-dotprod"]
    built, rng = build(target, [RowwiseInt8(16).lower(target)]), np.random.default_rng(0)
    weights = draw_integers(rng, 16, 5, 64, 0.4)
    case, _ = product(0, built.families[0], weights, 1, 33, rng)
    old = next(cpu for cpu, features in CPUS.items() if "asimddp" not in features)
    with pytest.raises(ChildProcessError, match="Illegal instruction"):
        run_cases(old, built.driver, built.library, [case], tmp_path)
