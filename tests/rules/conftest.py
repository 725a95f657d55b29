import pytest

from autoprune.ops import rule as registry


@pytest.fixture(autouse=True)
def _no_rule_outlives_its_test():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_OUTSIDE", {})
        registry.find.cache_clear()
        yield
    registry.find.cache_clear()
