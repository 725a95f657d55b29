"""Settings every test runs under."""

import atexit
import os
import shutil
import sys
import tempfile

if "PYTEST_XDIST_WORKER" not in os.environ:
    # What earlier runs left in the user's cache must not make a test pass.
    os.environ["XDG_CACHE_HOME"] = cache = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci")


def pytest_runtest_setup():
    """One torch thread, in tests that use torch at all: small tensors gain nothing from more."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
