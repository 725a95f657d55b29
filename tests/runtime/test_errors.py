"""The runtime has errors of its own, which look like autoprune's."""

import pickle

import pytest

import autoprune.errors
import autoprune.runtime.errors as own


@pytest.mark.parametrize("name", ["ArtifactError", "TargetError", "NotEqualError"])
def test_errors_read_alike(name):
    error = getattr(own, name)("no", where="here", hint="do b")
    assert isinstance(error, own.AutopruneRuntimeError)
    assert str(error) == str(getattr(autoprune.errors, name)("no", where="here", hint="do b"))
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), str(error))
