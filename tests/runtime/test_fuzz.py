"""Random files, and random manifests in sound files: nothing but ArtifactError, nothing written."""

import json
import os
import sys
from contextlib import contextmanager
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoprune.passes.lower.artifact import write_artifact
from autoprune.runtime import ArtifactError
from autoprune.runtime.archive import open_archive
from autoprune.runtime.manifest_reader import read_manifest
from tests.effort import FUZZ
from tests.runtime.test_bad_files import SMALL, container, manifest

EFFORT = settings(
    max_examples=10_000 if FUZZ else 200, suppress_health_check=list(HealthCheck), deadline=None
)

watched: list[str] | None = None


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if watched is None:
        return
    if event == "open":
        flags = arguments[2]
        if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            watched.append(event)
    elif event.startswith(("os.", "shutil.", "tempfile.", "subprocess.", "ctypes.", "socket.")):
        watched.append(event)


sys.addaudithook(_watch)


@contextmanager
def harmless():
    """Check that the block writes, loads, starts and sends nothing."""
    global watched
    watched = []
    try:
        yield
        assert watched == []
    finally:
        watched = None


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "model.apz"
    write_artifact(path, SMALL)
    return path.read_bytes()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "fuzzed.apz"


def outcome(path):
    """Everything in a file, or None if it is refused."""
    with harmless():
        try:
            with open_archive(path) as archive:
                return archive.read(archive.manifest.members)
        except ArtifactError:
            return None


def test_the_watch_sees(tmp_path):
    with pytest.raises(AssertionError), harmless():
        (tmp_path / "file").write_text("")


@EFFORT
@given(data=st.binary(max_size=400))
def test_random_bytes(file, data):
    file.write_bytes(b"PK\3\4" + data)
    assert outcome(file) is None


edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=4
)


@EFFORT
@given(edits=edits)
def test_random_edits(file, sound, edits):
    """Pieces of a sound file are replaced, removed, inserted."""
    data = sound
    for where, removed, inserted in edits:
        place = round(where * len(data))
        data = data[:place] + inserted + data[place + removed :]
    file.write_bytes(data)
    found = outcome(file)
    assert found is None or found.keys() == {"dense.onnx", "text", "raw"}


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def paths(value, path=()):
    """The places in a JSON document."""
    yield path
    if not isinstance(value, dict | list):
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from paths(inner, (*path, key))


MEMBERS = {"dense.onnx": b"", "raw": b"abcd"}

FULL = json.loads(
    manifest(
        inputs=[{"name": "x", "dtype": "int8", "shape": [2, "n", None]}],
        model="dense.onnx",
        libraries=[
            {"member": "dense.onnx", "system": "linux", "machine": "arm64", "features": ["neon"],
             "label": "arm64"}
        ],
        provenance={"plan": "5f"},
        examples=[
            {
                "inputs": {"x": {"member": "dense.onnx", "shape": [2, 0, 1]}},
                "outputs": {"y": {"member": "raw", "shape": []}},
            }
        ],
        members={name: {"size": len(data), "sha256": sha256(data).hexdigest()}
                 for name, data in MEMBERS.items()},
    )
)  # fmt: skip


def replaced(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def test_the_full_manifest_is_sound(file):
    file.write_bytes(container(("manifest.json", json.dumps(FULL).encode()), *MEMBERS.items()))
    assert outcome(file) == MEMBERS


@EFFORT
@given(path=st.sampled_from(list(paths(FULL))), value=values)
def test_random_manifest(file, path, value):
    """Any value in any place of a manifest that is otherwise sound."""
    data = json.dumps(replaced(FULL, path, value)).encode()
    file.write_bytes(container(("manifest.json", data), *MEMBERS.items()))
    found = outcome(file)
    assert found in (None, MEMBERS)
    if found is not None:
        manifest = read_manifest(data)
        assert read_manifest(manifest.to_json()) == manifest
