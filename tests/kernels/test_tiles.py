"""Tiles, measured or not, that the operators can divide any number of positions into."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

from autoprune.passes.kernels import tiles
from autoprune.passes.kernels.build import (
    TARGETS,
    VARIANTS,
    Family,
    int8_family,
    rowwise_family,
    spatial_family,
)

ROWS = {spatial_family: (1, 4, 8, 16), rowwise_family: (8, 16, 32, 64), int8_family: (16, 32, 64)}
CASES = [
    (name, make, rows)
    for name, target in TARGETS.items()
    for make, found in ROWS.items()
    for rows in found
    if target.dot or make is not int8_family
]


@pytest.mark.parametrize(("name", "make", "rows"), CASES)
def test_tiles_fall_to_one_position(name, make, rows):
    family: Family = make(TARGETS[name], rows)
    sizes = [kernel.tile for kernel in family.kernels]
    assert sizes == sorted(set(sizes), reverse=True)
    assert sizes[-1] == 1
    assert len(sizes) <= VARIANTS


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("rows", [16, 32, 64])
def test_sums_weights_and_an_activation_fit_into_registers(lanes, rows):
    for tile, parts in tiles.rowwise_tiles(lanes, rows):
        vectors = rows // parts // lanes
        assert tile == 1 or tile * vectors + vectors + 1 <= tiles.registers(lanes)


def test_what_was_measured_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "TABLE", tmp_path / "tiles.json")
    tiles.TABLE.write_text(json.dumps({"x86-64-v3": {"rowwise 32": [[5, 4], [1, 1]]}}))
    tiles._table.cache_clear()
    try:
        (first, last) = rowwise_family(TARGETS["x86-64-v3"], 32).kernels
        assert (first.tile, first.parts, last.tile) == (5, 4, 1)
        assert tiles.measured_tiles("x86-64-v3", "rowwise", 64) == ()
        assert tiles.measured_tiles("generic", "rowwise", 32) == ()
    finally:
        tiles._table.cache_clear()


def test_the_table_is_of_known_kernels():
    table = json.loads(tiles.TABLE.read_text())
    assert set(table) <= {target.cpu for target in TARGETS.values()}
    kernels = {f"{kernel} {rows}" for kernel, found in (
        ("spatial", (1, 4, 8, 16)), ("rowwise", (8, 16, 32, 64)), ("rowwise8", (16, 32, 64)),
    ) for rows in found}  # fmt: skip
    assert all(set(found) <= kernels for found in table.values())
