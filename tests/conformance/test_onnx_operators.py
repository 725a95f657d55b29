"""A sample of ONNX's operators; `make conformance` tries them all."""

import pytest

from tests.conformance.onnx_operators import examine, names
from tests.effort import sampled


@pytest.mark.parametrize("name", sampled(names(), 12))
def test_no_wrong_number_and_no_foreign_error(name):
    outcome = examine(name, cases=3)
    assert outcome.result != "failed", outcome.reason
