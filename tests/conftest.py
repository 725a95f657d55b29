"""Settings every test runs under."""

import os
import sys

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci")


def pytest_runtest_setup():
    """One torch thread, in tests that use torch at all: small tensors gain nothing from more."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
