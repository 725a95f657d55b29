"""The CUDA source of every kernel, emulated, against float64 products."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

from autoprune.passes.kernels.cuda.kernels import ROWS, RowwiseCuda, Split, Tiled, choose, family
from autoprune.passes.kernels.cuda.weights import chunks_of, pack
from autoprune.passes.kernels.kernel import Product
from autoprune.passes.kernels.registry import kernels, select
from autoprune.passes.sparsify.masks import find_mask
from autoprune.passes.sparsify.registry import parse_format
from tests.kernels.blocks import ACTIVATIONS
from tests.kernels.cuda.emulated import emulated
from tests.tolerance import DIFFERENT, ROUNDING_HALF, ROUNDING_SINGLE

PLAIN = [(rows, "", False, "float32") for rows in ROWS]
FUSED = [
    (4, "relu6", False, "float32"), (8, "relu", True, "float32"), (16, "silu", False, "float32"),
    (32, "gelu", True, "float32"), (64, "hardswish", True, "float32"), (1, "", True, "float32"),
]  # fmt: skip
HALF = [(1, "", False), (4, "", True), (32, "gelu", False), (64, "relu", True)]
FAMILIES = [*PLAIN, *FUSED, *((*half, "float16") for half in HALF)]


def make(rows, activation, residual, dtype):
    return family(rows, activation, residual=residual, dtype=dtype)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    kernels = [kernel for settings in FAMILIES for kernel in make(*settings)]
    return emulated(kernels, tmp_path_factory.mktemp("cuda"))


def draw(rng, outputs, inputs, rows, density):
    """A matrix with blocks of zeros; the first block row is empty, the last one full."""
    mask = rng.random((-(-outputs // rows), inputs)) < density
    mask[0], mask[-1] = False, True
    return rng.standard_normal((outputs, inputs)) * np.repeat(mask, rows, 0)[:outputs]


def within(array, fill):
    """A copy that has a margin of a number before and after it in memory, and both margins."""
    memory = np.full(array.size + 128, fill, array.dtype)
    inner = memory[64:-64]
    inner[:] = array.reshape(-1)
    return inner.reshape(array.shape), memory[:64], memory[-64:]


def product(library, kernel, weight, bias, x, added=None):
    """What a kernel makes; beyond its arguments it reads NaN, and writes nothing."""
    packed = pack(weight.astype(x.dtype), kernel.rows)
    shift = np.zeros((-(-len(weight) // kernel.rows), kernel.rows), np.float32)
    shift.reshape(-1)[: len(bias)] = bias
    y, before, after = within(np.zeros((len(x), len(weight)), x.dtype), np.nan)
    x, *_ = within(x, np.nan)
    values, *_ = within(packed.values, np.nan)
    rest = None if added is None else within(added, np.nan)[0]
    arrays = (x, values, packed.index, packed.starts, shift, rest, y)
    pointers = [0 if array is None else array.ctypes.data for array in arrays]
    inputs = weight.shape[1]
    sizes = (len(x), inputs, len(weight), len(shift), chunks_of(inputs))
    library.launch(kernel, pointers, sizes, 0)
    assert np.isnan(before).all()
    assert np.isnan(after).all()
    return y


def check(library, kernel, rng, outputs, inputs, positions, density=0.3):
    weight = draw(rng, outputs, inputs, kernel.rows, density).astype(kernel.dtype)
    x = rng.standard_normal((positions, inputs)).astype(kernel.dtype)
    bias = rng.standard_normal(outputs).astype(np.float32)
    added = rng.standard_normal((positions, outputs)).astype(kernel.dtype)
    added = added if kernel.residual else None
    got = product(library, kernel, weight, bias, x, added)
    expected = x.astype(np.float64) @ weight.astype(np.float64).T + bias
    expected = ACTIVATIONS[kernel.activation](expected if added is None else expected + added)
    level = ROUNDING_SINGLE if kernel.dtype == "float32" else ROUNDING_HALF
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got, expected, rtol=0, atol=level * scale)


def name(settings):
    return make(*settings)[-1].name


@pytest.mark.parametrize("settings", FAMILIES, ids=name)
def test_every_number_of_positions(settings, library):
    rng = np.random.default_rng(0)
    rows = settings[0]
    for kernel in make(*settings):
        tile = kernel.tile
        # What is fused does not depend on where tiles end.
        found = {1, tile - 1, tile, tile + 1, 2 * tile + 5} if settings in PLAIN else {tile + 1}
        for positions in sorted(found - {0}):
            check(library, kernel, rng, 2 * rows + 1, 70, positions)


@pytest.mark.parametrize("settings", FAMILIES, ids=name)
def test_every_tail(settings, library):
    rng = np.random.default_rng(1)
    rows = settings[0]
    for kernel in make(*settings):
        for inputs in (1, 2, 63, 64, 65, 127, 200):
            check(library, kernel, rng, 3 * rows, inputs, 5)
        for outputs in {1, rows - 1, rows, rows + 1, 4 * rows, 5 * rows + 1} - {0}:
            check(library, kernel, rng, outputs, 40, 5)


@pytest.mark.parametrize("rows", ROWS)
def test_a_matrix_of_zeros(rows, library):
    rng = np.random.default_rng(2)
    x, bias = rng.standard_normal((3, 70)).astype(np.float32), np.arange(9, dtype=np.float32)
    for kernel in family(rows):
        got = product(library, kernel, np.zeros((9, 70)), bias, x)
        np.testing.assert_array_equal(got, np.broadcast_to(bias, (3, 9)))


@pytest.mark.parametrize(
    ("text", "sparsity"),
    [(f"block {size}", 0.7) for size in ("4x1", "8x1", "16x1", "32x1", "64x1", "1x16", "16x16")]
    + [("2:4", None), ("1:4", None), ("1:4 shared 8", None), ("2:8 shared 32", None)]
    + [("fan-in", 0.8), ("fan-in 7", None), ("csr", 0.9), ("bitmask", 0.5)],
)
def test_every_format(text, sparsity, library):
    """Also those whose tiles stick out of the matrix."""
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((101, 90))
    format = parse_format(text)
    mask = find_mask(format, np.abs(weight), sparsity)
    weight = format.decode(format.encode(weight, mask)).astype(np.float32)
    rows = format.tile[0]
    assert pack(weight, rows).values.size <= 1.2 * mask.sum() + rows * 90
    bias = rng.standard_normal(101).astype(np.float32)
    for positions in (1, 6, 40):
        x = rng.standard_normal((positions, 90)).astype(np.float32)
        got = product(library, choose(family(rows), positions), weight, bias, x)
        expected = x.astype(np.float64) @ weight.T.astype(np.float64) + bias
        scale = float(np.abs(expected).max())
        np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING_SINGLE * scale)


@pytest.mark.parametrize("kernel", [Split(16, 4), Tiled(16)], ids=lambda kernel: kernel.name)
def test_the_emulation_notices_a_missing_barrier(kernel, tmp_path):
    library = emulated([kernel], tmp_path, lambda source: source.replace("__syncthreads();", ""))
    with pytest.raises(AssertionError, match="Not equal"):
        check(library, kernel, np.random.default_rng(4), 64, 200, 9)


def test_the_kernel_for_a_number_of_positions():
    kernels = family(32)
    chosen = [choose(kernels, positions) for positions in (1, 2, 3, 8, 9, 16, 17, 1000)]
    assert [k.tile if isinstance(k, Split) else "tiled" for k in chosen] == [
        1, 2, 4, 8, 8, 8, "tiled", "tiled",
    ]  # fmt: skip


def test_starts_of_chunks():
    weight = np.zeros((4, 130))
    weight[[0, 1, 1, 2], [3, 63, 128, 64]] = 1
    packed = pack(weight, 2)
    assert packed.index.tolist() == [3, 63, 128, 64]
    assert packed.starts.tolist() == [0, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("settings", [{"rows": 12}, {"rows": 512}, {"rows": 8, "dtype": "int8"}])
def test_kernels_that_do_not_exist(settings):
    with pytest.raises(ValueError, match="rows are one of"):
        family(**settings)


def test_an_unknown_activation():
    with pytest.raises(ValueError, match="no activation 'swoosh'"):
        Tiled(8, "swoosh").primitive()


def test_different_weights_make_a_difference(library):
    """The comparison can fail."""
    rng = np.random.default_rng(5)
    weight, x = draw(rng, 32, 40, 8, 0.5), rng.standard_normal((4, 40)).astype(np.float32)
    one = product(library, Tiled(8), weight, np.zeros(32), x)
    weight[9, np.flatnonzero(weight[9])[0]] += 0.1
    assert np.abs(product(library, Tiled(8), weight, np.zeros(32), x) - one).max() > DIFFERENT


@pytest.mark.parametrize(("drawn", "expected"), [(32, 32), (8, 8), (2, 1)])
def test_the_registry_chooses_by_the_zeros(drawn, expected):
    weight = draw(np.random.default_rng(6), 128, 96, drawn, 0.2).astype(np.float16)
    product = Product(True, "x", "y", weight, np.ones(128, np.float32))
    found = select(product, ("float32",), device="cuda")
    assert found.kernel == kernels("cuda").find("rowwise-cuda")(expected, dtype="float16")
    assert [tile.name for tile in found.kernel.lower().tiles] == [
        tile.name for tile in family(expected, dtype="float16")
    ]
    assert found.kernel.encode(product, {})["bias"].shape == (128 // expected, expected)
    # Networks for processors never get it, and dense weights stay dense.
    assert not isinstance(select(product, ("float32",)).kernel, RowwiseCuda)
    dense = Product(True, "x", "y", np.ones((128, 96), np.float32), np.ones(128))
    assert select(dense, ("float32",), device="cuda") is None
