"""Formats by name."""

import pytest

from autoprune.errors import FormatError
from autoprune.passes.sparsify.formats.blocks import CSR, Block
from autoprune.passes.sparsify.formats.patterns import NM, ConstantFanIn
from autoprune.passes.sparsify.registry import FAMILIES, Family, parse_format
from tests.sparsify.formats import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_as_they_are_read(name):
    assert str(parse_format(name)) == name


def test_names_mean_formats():
    assert parse_format("block 32x1") == Block(32, 1)
    assert parse_format("2:4") == NM(2, 4)
    assert parse_format(" 1:4 shared 8 ") == NM(1, 4, 8)
    assert parse_format("fan-in 64") == ConstantFanIn(64)


@pytest.mark.parametrize("name", ["", "block", "block 4", "block -4x1", "2:4 shared", "nosuch"])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(FormatError, match=r"block ROWSxCOLS, csr, bitmask, N:M"):
        parse_format(name)


def test_a_family_can_be_added_and_removed_but_not_replaced():
    family = Family("rows K", r"rows (\d+)", lambda k: Block(k, 1))
    FAMILIES.add("rows", family)
    try:
        assert parse_format("rows 3") == Block(3, 1)
        with pytest.raises(FormatError, match="family of formats 'rows' already"):
            FAMILIES.add("rows", family)
    finally:
        FAMILIES.forget("rows")
    assert "rows" not in FAMILIES
    with pytest.raises(FormatError, match="no family of formats 'rows'"):
        FAMILIES.forget("rows")


def test_a_package_format_cannot_be_replaced():
    with pytest.raises(FormatError, match="family of formats 'csr' already"):
        FAMILIES.add("csr", Family("csr", "csr", CSR))
