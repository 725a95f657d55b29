"""Artifacts as they are written: readable, reproducible, and never half."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest

from autoprune.errors import ArtifactError
from autoprune.passes.lower.artifact import write_artifact
from autoprune.runtime.archive import open_archive
from autoprune.runtime.manifest import Manifest, Member, TensorSpec, Tolerance
from autoprune.runtime.manifest_reader import read_manifest
from tests.runtime.artifacts import X, dense_contents, native_library, network


def read_whole(path):
    """The manifest, the digest and all members."""
    with open_archive(path) as archive:
        return archive.manifest, archive.digest, archive.read(archive.manifest.members.keys())


def full_contents():
    libraries = [native_library(b"first", "f1", label="v2"), native_library(b"other", label="v1")]
    return replace(
        dense_contents(),
        model=network("custom"),
        libraries=libraries,
        sources={"source/kernels.c": b"int main;", "license": b""},
        tolerance=Tolerance(0.0, 1e-3),
    )


def test_round_trip(tmp_path):
    path, contents = tmp_path / "model.apz", full_contents()
    digest = write_artifact(path, contents)
    manifest, read, members = read_whole(path)
    assert read == digest
    assert members[manifest.dense] == contents.dense
    assert members[manifest.model] == contents.model
    assert [members[lib.member] for lib in manifest.libraries] == [b"first", b"other"]
    assert [lib.features for lib in manifest.libraries] == [("f1",), ()]
    assert members["source/kernels.c"] == b"int main;"
    stored = manifest.examples[0].inputs["x"]
    assert stored.shape == X.shape
    np.testing.assert_array_equal(np.frombuffer(members[stored.member], "<f4"), X.ravel())
    assert manifest.tolerance == contents.tolerance
    assert manifest.provenance == {"plan": "5f"}
    assert read_manifest(manifest.to_json()) == manifest


def test_other_programs_read_it_too(tmp_path):
    path = tmp_path / "model.apz"
    write_artifact(path, full_contents())
    manifest, _, members = read_whole(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["manifest.json", *sorted(members)]
        assert archive.read("manifest.json") == manifest.to_json()
        assert {name: archive.read(name) for name in members} == members


def test_equal_contents_give_equal_bytes(tmp_path):
    one, two = tmp_path / "one.apz", tmp_path / "two.apz"
    assert write_artifact(one, full_contents()) == write_artifact(two, full_contents())
    assert one.read_bytes() == two.read_bytes()


def test_every_content_counts_for_the_digest(tmp_path):
    contents = full_contents()
    other = [
        contents,
        replace(contents, dense=contents.dense + b"\x1a\x00"),
        replace(contents, sources={}),
        replace(contents, libraries=contents.libraries[::-1]),
        replace(contents, provenance={"plan": "60"}),
    ]
    assert len({write_artifact(tmp_path / "x.apz", c) for c in other}) == len(other)


def test_zeros_compress_within_the_readers_limit(tmp_path):
    path = tmp_path / "model.apz"
    sources = {"zeros": bytes(10**6), "text": b"autoprune " * 100}
    write_artifact(path, replace(dense_contents(), sources=sources))
    assert 10**6 < path.stat().st_size < 10**6 + 10**4
    assert read_whole(path)[2]["zeros"] == bytes(10**6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dense": b"\x08"}, "no ONNX model"),
        ({"model": None}, "libraries"),
        ({"libraries": []}, "libraries"),
        ({"outputs": []}, "unknown"),
        ({"outputs": [], "examples": []}, "outputs, is empty"),
        ({"inputs": [TensorSpec("x", "float32", (3, 5))]}, "axis 1 of the input has size 4"),
        ({"inputs": [TensorSpec("x", "complex64", (3, 4))], "examples": []}, "unknown dtype"),
        ({"sources": {"../up": b""}}, "not allowed"),
        ({"sources": {"/etc/passwd": b""}}, "not allowed"),
        ({"sources": {"c:up": b""}}, "not allowed"),
        ({"sources": {"dense.onnx": b""}}, "name of another member"),
        ({"sources": {"manifest.json": b""}}, "name of another member"),
        ({"onnxruntime": "latest"}, "latest"),
        ({"tolerance": Tolerance(relative=float("nan"))}, "NaN"),
        ({"provenance": {"plan": "\n"}}, "printable"),
    ],
)
def test_contents_no_runtime_would_read(tmp_path, changes, message):
    with pytest.raises(ArtifactError, match=message):
        write_artifact(tmp_path / "model.apz", replace(full_contents(), **changes))
    assert not list(tmp_path.iterdir())


def test_nothing_is_lost_if_writing_fails(tmp_path):
    path = tmp_path / "model.apz"
    write_artifact(path, dense_contents())
    before = path.read_bytes()
    with pytest.raises(ArtifactError):
        write_artifact(path, replace(dense_contents(), outputs=[], examples=[]))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.apz"]


def test_folder_that_may_not_be_written_to(tmp_path):
    with pytest.raises(OSError, match="missing"):
        write_artifact(tmp_path / "missing" / "model.apz", dense_contents())
    # Not even root may create files there.
    with pytest.raises(OSError, match="/proc"):
        write_artifact("/proc/model.apz", dense_contents())


def test_manifest_defaults_are_valid():
    members = {"dense.onnx": Member(0, "0" * 64)}
    spec = TensorSpec("y", "float32", ())
    manifest = Manifest((), (spec,), members, "dense.onnx", "1.23")
    assert read_manifest(manifest.to_json()) == manifest
