"""A sample of PyTorch's operators; `make conformance` tries them all."""

import pytest

from tests.conformance.torch_operators import examine, names
from tests.effort import sampled


@pytest.mark.parametrize("name", sampled(names(), 60))
def test_no_wrong_number_and_no_foreign_error(name):
    outcome = examine(name, samples=2)
    assert outcome.result != "failed", outcome.reason
