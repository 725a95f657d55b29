"""Tiles, measured or not, that the operators can divide any number of positions into."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

from autoprune.passes.kernels import tiles
from autoprune.passes.kernels.build import VARIANTS
from autoprune.passes.kernels.geometry import Geometry
from autoprune.passes.kernels.registry import kernels
from autoprune.passes.kernels.target import TARGETS, X86, Target

ROWS = {"spatial": (1, 4, 8, 16), "rowwise": (8, 16, 32, 64), "rowwise8": (16, 32, 64)}
CASES = [
    (name, kernel, rows)
    for name, target in TARGETS.items()
    for kernel, found in ROWS.items()
    for rows in found
    if target.dot or kernel != "rowwise8"
]


@pytest.mark.parametrize(("name", "kernel", "rows"), CASES)
def test_tiles_fall_to_one_position(name, kernel, rows):
    sizes = [tile.tile for tile in kernels().find(kernel)(rows).lower(TARGETS[name]).tiles]
    assert sizes == sorted(set(sizes), reverse=True)
    assert sizes[-1] == 1
    assert len(sizes) <= VARIANTS


@pytest.mark.parametrize("registers", [16, 32])
@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("rows", [8, 16, 32, 64])
def test_sums_weights_and_an_activation_fit_into_registers(lanes, registers, rows):
    """Whatever the width of vectors, so many there are."""
    target = Target("another", X86, "another", lanes, registers, ())
    for tile in kernels().find("rowwise")(rows).lower(target).tiles:
        vectors = max(1, rows // tile.parts // lanes)
        assert tile.tile == 1 or tile.tile * vectors + vectors + 1 <= registers
    for tile in kernels().find("spatial")(16).lower(target).tiles:
        assert tile.vectors == 1 or 16 * tile.vectors <= registers // 2
    height = kernels().find("depthwise")(Geometry((3, 3))).lower(target).tiles[0].height
    assert height == registers // 8


def test_fewer_registers_make_smaller_tiles():
    """What a target says counts, not the width of its vectors."""
    few, many = (Target("another", X86, "another", 4, n, ()) for n in (16, 32))
    kernel = kernels().find("rowwise")(32)
    first, second = (kernel.lower(target).tiles[0] for target in (few, many))
    assert first.tile * first.width < second.tile * second.width
    assert kernel.lower(many).tiles == kernel.lower(TARGETS["arm64"]).tiles


def test_what_was_measured_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "TABLE", tmp_path / "tiles.json")
    tiles.TABLE.write_text(json.dumps({"x86-64-v3": {"rowwise 32": [[5, 4], [1, 1]]}}))
    tiles._table.cache_clear()
    try:
        (first, last) = kernels().find("rowwise")(32).lower(TARGETS["x86-64-v3"]).tiles
        assert (first.tile, first.parts, last.tile) == (5, 4, 1)
        assert tiles.measured_tiles("x86-64-v3", "rowwise", 64) == ()
        assert tiles.measured_tiles("generic", "rowwise", 32) == ()
    finally:
        tiles._table.cache_clear()


def test_the_table_is_of_known_kernels():
    table = json.loads(tiles.TABLE.read_text())
    assert set(table) <= {target.cpu for target in TARGETS.values()}
    kernels = {f"{kernel} {rows}" for kernel, found in ROWS.items() for rows in found}
    assert all(set(found) <= kernels for found in table.values())
