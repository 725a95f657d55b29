import pytest

from autoprune.ops import rule as registry


@pytest.fixture(autouse=True)
def _no_rule_outlives_its_test(monkeypatch):
    monkeypatch.setattr(registry, "_OUTSIDE", {})
    monkeypatch.setattr(registry, "_FOUND", {})
