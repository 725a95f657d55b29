"""Kernels as portable C, compiled without optimization and run under sanitizers.

The driver of tests/arm takes the place of ONNX Runtime. Its tensors end where memory ends.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

from autoprune.passes.kernels.build import C_FOLDER
from autoprune.passes.kernels.c_source import FLAGS, operator_sources
from autoprune.passes.kernels.cpu.depthwise import Depthwise
from autoprune.passes.kernels.cpu.depthwise_bytes import DepthwiseBytes
from autoprune.passes.kernels.cpu.rowwise import Rowwise
from autoprune.passes.kernels.cpu.rowwise_int8 import RowwiseInt8
from autoprune.passes.kernels.cpu.scattered import Scattered
from autoprune.passes.kernels.cpu.spatial import Spatial
from autoprune.passes.kernels.cpu.spatial_int8 import SpatialBytes, SpatialInt8
from autoprune.passes.kernels.geometry import Geometry
from autoprune.passes.kernels.target import find_target
from tests.arm import test_kernels as arm
from tests.arm.cases import Case, pack_cases, unpack_results
from tests.kernels.blocks import ACTIVATIONS, draw, draw_integers
from tests.kernels.quantized import cases_of, compare_bytes, families_of
from tests.kernels.test_convolutions import GEOMETRIES, SIZES, convolved, fits

SANITIZE = ("-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
WARNINGS = ("-Wall", "-Wextra", "-Werror")
DRIVER = Path(arm.__file__).with_name("operators.c")


def write(made, folder):
    """The sources in a folder."""
    for name, text in operator_sources(made).items():
        (folder / name).write_text(text)
    return sorted(folder.glob("*.c"))


def gcc(*words):
    built = subprocess.run(["gcc", *words], capture_output=True, text=True, check=False)
    if "cannot find" in built.stderr and "asan" in built.stderr:
        pytest.skip("gcc's sanitizers are not installed")
    assert built.returncode == 0, built.stderr


@pytest.fixture(scope="module")
def common(tmp_path_factory):
    """The driver, and the objects of all C files that do not depend on the kernels."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder = tmp_path_factory.mktemp("common")
    files = [path for path in C_FOLDER.glob("*.c") if "kernels.h" not in path.read_text()]
    objects = []
    for path in files:
        objects.append(folder / f"{path.stem}.o")
        gcc(*FLAGS, *SANITIZE, *WARNINGS, "-c", path, "-o", objects[-1])
    gcc("-std=c11", *SANITIZE, f"-I{C_FOLDER}", DRIVER, "-ldl", "-o", folder / "driver")
    return folder / "driver", objects


@pytest.fixture
def run(common, tmp_path):
    """Run cases by the library of some kernels, all of it under sanitizers."""
    driver, objects = common
    library = tmp_path / "operators.so"

    def ran(made, cases):
        source = tmp_path / "source"
        source.mkdir()
        known = {path.stem for path in objects}
        rest = [path for path in write(made, source) if path.stem not in known]
        gcc(*FLAGS, *SANITIZE, *WARNINGS, *rest, *objects, "-lm", "-o", library)
        (tmp_path / "cases").write_bytes(pack_cases(cases))
        words = [driver, library, tmp_path / "cases", tmp_path / "results"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return unpack_results((tmp_path / "results").read_bytes())

    return ran


def test_products_of_floats(run):
    """Tiles for other processors are C like any other."""
    rng, found = np.random.default_rng(0), []
    kinds = (
        Spatial(4, "relu6"), Spatial(8, "silu", True), Spatial(16, "hardswish"),
        Rowwise(16, "relu", True), Rowwise(32, "gelu"), Scattered("relu", True),
    )  # fmt: skip
    targets = [find_target(name) for name in ("x86-64-v4", "x86-64-v3", "arm64")]
    made = [kind.lower(target) for target in targets for kind in kinds]
    for number, lowered in enumerate(made):
        scattered = lowered.rows == 1
        weights = draw(rng, lowered.rows, 5, 13, 0.4)
        for positions in arm.tails(lowered):
            found.append(
                arm.product(number, lowered, weights, 2, positions, rng, scattered=scattered)
            )
    cases, expected = zip(*found, strict=True)
    arm.compare(run(made, cases), cases, expected)


@pytest.mark.parametrize("name", ["x86-64-v4-vnni", "arm64-dotprod"])
def test_products_of_integers(name, run):
    target, rng, found = find_target(name), np.random.default_rng(0), []
    made = [RowwiseInt8(16).lower(target), RowwiseInt8(32, "gelu", residual=True).lower(target)]
    for number, family in enumerate(made):
        weights = draw_integers(rng, family.rows, 5, 64, 0.4)
        for positions in (1, 2, 7, 17, 33):
            found.append(arm.product(number, family, weights, 1, positions, rng))
    cases, expected = zip(*found, strict=True)
    arm.compare(run(made, cases), cases, expected)


def test_convolutions(run):
    target, rng, found, gaps = find_target("x86-64-v3"), np.random.default_rng(0), [], []
    apart = [geometry for geometry in GEOMETRIES if geometry.gap is not None]
    made = [Depthwise(geometry, "relu6").lower(target) for geometry in apart]
    made += [Spatial(4, "relu6").lower(target), Spatial(4, "silu").lower(target)]
    fused, alone = len(apart), len(apart) + 1
    for number, geometry in enumerate(apart):
        for size in (size for size in SIZES if fits(geometry, size)):
            gap = geometry.gap
            settings = {"depthwise": number, "gap": gap, **geometry.attributes()}
            found.append(arm.depthwise(rng, geometry, size, {**settings, "x_gap": 0}))
            settings |= {"x_gap": gap, "kernel": fused}
            found.append(arm.fused(rng, geometry, size, settings))
            gaps += [gap] * 2
    for geometry in GEOMETRIES:
        size = next(size for size in SIZES if fits(geometry, size))
        weights, x = draw(rng, 4, 5, 6 * geometry.taps, 0.4), arm.floats(rng, (2, 6, *size))
        dense = weights.dense.reshape(-1, 6, *geometry.kernel)
        wanted = convolved(x, dense, weights.bias.reshape(-1), geometry)
        settings = {"kernel": alone, **geometry.attributes()}
        case = Case("SparseConv", settings, [x, *arm.sparse_tensors(weights)])
        found.append((case, ACTIVATIONS["silu"](wanted)))
        gaps.append(0)
    cases, expected = zip(*found, strict=True)
    arm.compare(map(arm.narrowed, run(made, cases), gaps), cases, expected)


@pytest.mark.parametrize("name", ["x86-64-v4-vnni", "arm64-dotprod"])
def test_convolutions_of_bytes(name, run):
    target, rng = find_target(name), np.random.default_rng(0)
    geometries = [Geometry(), *GEOMETRIES]

    def sizes(geometry):
        return [size for size in [*SIZES, (6, 8)] if fits(geometry, size)]

    found = list(cases_of(rng, target.dot.offset, geometries, sizes))
    results = run(families_of(target, geometries), [case for case, _ in found])
    compare_bytes(results, found, target.dot.offset)


def test_it_compiles_for_arm64(tmp_path):
    if shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("aarch64-linux-gnu-gcc is not installed")
    target = find_target("arm64-dotprod")
    made = [
        Spatial(8, "silu", residual=True).lower(target),
        Rowwise(32, "gelu").lower(target),
        RowwiseInt8(32).lower(target),
        SpatialInt8(4, "relu6").lower(target),
        SpatialBytes("silu", residual=True).lower(target),
        Depthwise(Geometry((3, 3), (2, 2)), "relu").lower(target),
        DepthwiseBytes(Geometry((5, 5)), "hardswish").lower(target),
    ]
    command = ["aarch64-linux-gnu-gcc", *FLAGS, *WARNINGS, "-march=armv8.2-a"]
    command += [*write(made, tmp_path), "-lm", "-o", tmp_path / "operators.so"]
    subprocess.run(command, check=True)


def test_equal_families_give_equal_sources():
    families = [Rowwise(32, "gelu").lower(find_target("x86-64-v3"))]
    first, second = (operator_sources(families) for _ in range(2))
    assert first == second
    # Seven digits, as TVM writes them, would be another float32.
    assert "2.85320473e-03f" in first["kernels.c"]
    assert "2.853205e-03" not in first["kernels.c"]
