"""Real ONNX models, the quick ones; `benchmarks/zoo_onnx.py` examines all of them."""

from __future__ import annotations

import pytest

from tests.onnx.zoo import FILES, QUICK_EXPORTS, examine, export
from tests.tolerance import CUT

pytestmark = pytest.mark.zoo


@pytest.mark.parametrize("file", [f for f in FILES if f.quick], ids=lambda f: f.name)
def test_files(file):
    row = examine(file.name, file.locate(), file.inputs)
    assert row.error < CUT
    assert row.params < file.kept


@pytest.mark.parametrize("name", QUICK_EXPORTS)
def test_exports(name, tmp_path):
    row = examine(name, export(name, tmp_path))
    assert row.error < CUT
    assert row.params < 0.5
