"""Whatever a file holds: the artifact that was written, or ArtifactError."""

import hashlib
import io
import json
import stat
import zipfile
import zlib
from random import Random

import pytest

from autoprune.passes.lower.artifact import Contents, write_artifact
from autoprune.runtime import ArtifactError, Session
from autoprune.runtime.archive import open_archive
from autoprune.runtime.container import DEFLATED, STORED, Entry, chunks, end_record, read_directory
from autoprune.runtime.manifest import MAX_MANIFEST_SIZE, TensorSpec
from tests.runtime.artifacts import dense_contents, native_library, network

SMALL = Contents(
    [], [TensorSpec("y", "float32", ())], b"", sources={"text": b"ha" * 100, "raw": b"abc"}
)


def read(path):
    """Everything in a file."""
    with open_archive(path) as archive:
        return archive.digest, archive.read(archive.manifest.members)


def container(*members, method=STORED, junk=b"", **fields) -> bytes:
    """A container of any members, with any fields of their entries, and junk after their bytes."""
    file, entries = io.BytesIO(), []
    for name, data in members:
        inflate = zlib.compressobj(wbits=-15)
        packed = inflate.compress(data) + inflate.flush() if method == DEFLATED else data
        packed += junk
        known = {"crc": zlib.crc32(data), "packed": len(packed), "size": len(data)}
        entry = Entry(name, method, **{**known, "offset": file.tell(), **fields})
        file.write(entry.header() + packed)
        entries.append(entry)
    directory = b"".join(entry.record() for entry in entries)
    end = end_record(len(entries), len(directory), file.tell())
    return file.getvalue() + directory + end


def manifest(**changes) -> bytes:
    """The manifest of an artifact of one empty model, changed."""
    empty = {"size": 0, "sha256": hashlib.sha256().hexdigest()}
    record = {
        "format": "autoprune artifact", "version": 1, "dense": "dense.onnx", "model": None,
        "inputs": [], "outputs": [{"name": "y", "dtype": "float32", "shape": []}],
        "members": {"dense.onnx": empty}, "libraries": [], "examples": [], "onnxruntime": "1.23",
        "tolerance": {"absolute": 0, "relative": 0.1}, "provenance": {},
    }  # fmt: skip
    return json.dumps(record | changes).encode()


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.apz"
    write_artifact(path, SMALL)
    return path


@pytest.fixture
def refused(tmp_path):
    """Check that a file of given bytes is refused."""

    def check(data: bytes, message: str) -> None:
        path = tmp_path / "bad.apz"
        path.write_bytes(data)
        with pytest.raises(ArtifactError, match=message):
            read(path)

    return check


def test_the_smallest_artifact_is_read(tmp_path):
    path = tmp_path / "good.apz"
    path.write_bytes(container(("manifest.json", manifest()), ("dense.onnx", b"")))
    assert read(path)[1] == {"dense.onnx": b""}


def test_truncated(small, refused):
    data = small.read_bytes()
    for length in {*range(0, len(data), 64), len(data) - 1}:
        refused(data[:length], "truncated|no artifact")


def test_flipped(small, tmp_path):
    data, before = bytearray(small.read_bytes()), read(small)
    path = tmp_path / "flipped.apz"
    survivors = 0
    for position in range(0, len(data), 3):
        for bit in (1, 0x80):
            data[position] ^= bit
            path.write_bytes(data)
            data[position] ^= bit
            try:
                assert read(path) == before
                survivors += 1
            except ArtifactError:
                pass
    # Bits that pad the end of a compressed stream mean nothing.
    assert survivors <= 3


@pytest.mark.parametrize("data", [b"", b"PK\3\4", b"MZ" * 50, bytes(100), b"PK\5\6" + bytes(18)])
def test_other_files(refused, data):
    refused(data, "no artifact|truncated")


def test_bytes_before_and_after(small, refused):
    data = small.read_bytes()
    refused(b"#!/bin/sh\n" + data, "no artifact")
    refused(data + b"\n", "truncated, or something was added")
    refused(data + data, "truncated, or something was added")


def test_renamed_member(small, refused):
    data = small.read_bytes()
    refused(data.replace(b"text", b"next"), "next in")
    refused(data.replace(b"PK\3\4", b"PK\3\5"), "no artifact")
    [second, _] = data.split(b"raw", 1)
    refused(second + b"waw" + data[len(second) + 3 :], "raw")


@pytest.mark.parametrize(
    "name",
    [
        "../up", "a/../../up", "/etc/passwd", "c:\\up", "a\\b", "//host/share", "a/./b", ".hidden",
        "a//b", "a/", "", "UPPER", "new\nline", "nul\0", "x" * 101, "ü",
    ],
)  # fmt: skip
def test_names_that_escape(refused, name):
    members = ("manifest.json", manifest()), ("dense.onnx", b""), (name, b"")
    refused(container(*members), "name that is not allowed")
    empty = json.loads(manifest())["members"]["dense.onnx"]
    refused(container(("manifest.json", manifest(members={name: empty}))), "not allowed there")


def test_missing_and_extra_members(refused):
    good = ("manifest.json", manifest())
    refused(container(good), "a member is missing\n  where: dense.onnx")
    refused(container(good, ("dense.onnx", b""), ("extra", b"")), "is not in the manifest")
    refused(container(("dense.onnx", b""), good), "lacks manifest.json")
    refused(container(good, ("dense.onnx", b""), ("dense.onnx", b"")), "occurs twice")
    refused(container(good, ("dense.onnx", b"x")), "has 1 bytes, not 0")


def test_zip_of_another_program(tmp_path, refused):
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", manifest())
        archive.writestr("dense.onnx", b"")
    refused(path.read_bytes(), "properties that are not allowed")


def test_symlink(refused):
    data = bytearray(container(("manifest.json", manifest()), ("dense.onnx", b"")))
    place = data.rindex(b"PK\1\2") + 38
    data[place : place + 4] = ((stat.S_IFLNK | 0o777) << 16).to_bytes(4, "little")
    refused(bytes(data), r"properties that are not allowed\n  where: dense.onnx")


def test_encrypted(small, refused):
    data = bytearray(small.read_bytes())
    data[data.rindex(b"PK\1\2") + 8] |= 1
    refused(bytes(data), "properties that are not allowed")


def test_zip_bomb(refused):
    bomb = ("manifest.json", bytes(MAX_MANIFEST_SIZE))
    refused(container(bomb, method=DEFLATED), "too tightly")
    refused(container(bomb, method=DEFLATED, size=100), "damaged")
    refused(container(("manifest.json", bytes(MAX_MANIFEST_SIZE + 1))), "too large")


def test_no_more_is_unpacked_than_stated(tmp_path):
    path = tmp_path / "bomb.apz"
    member = "manifest.json", Random(0).randbytes(2**22)
    path.write_bytes(container(member, method=DEFLATED, size=2**20))
    handed_out = []
    with path.open("rb") as file:
        [entry] = read_directory(file)
        with pytest.raises(ArtifactError, match="damaged"):
            handed_out.extend(map(len, chunks(file, entry)))
    assert sum(handed_out) <= 2**20


def test_bytes_after_a_compressed_stream(refused):
    members = ("manifest.json", manifest()), ("dense.onnx", b"")
    refused(container(*members, method=DEFLATED, junk=b"junk"), "damaged")


def test_overlapping_members(refused):
    refused(container(("manifest.json", manifest()), ("dense.onnx", b""), offset=0), "not allowed")


def test_unknown_packing(refused):
    refused(container(("manifest.json", manifest()), method=12), "unknown way")


def test_too_many_members(refused):
    refused(container(*((f"m{i}", b"") for i in range(1026))), "more than 1024")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "format version 2, this runtime reads 1"),
        ({"version": True}, "format version"),
        ({"version": "1"}, "format version"),
        ({"format": "zip"}, "no manifest of an autoprune artifact"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"dense": "other.onnx"}, "names other.onnx"),
        ({"dense": 1}, "at dense"),
        ({"model": "dense.onnx"}, "libraries"),
        ({"inputs": {}}, "no list"),
        ({"inputs": [{}]}, r"inputs\[0\], lacks"),
        ({"inputs": [{"name": "x", "dtype": "object", "shape": []}]}, "unknown dtype"),
        ({"inputs": [{"name": "", "dtype": "bool", "shape": []}]}, "printable"),
        ({"inputs": [{"name": "x", "dtype": "bool", "shape": [-1]}]}, "whole number"),
        ({"inputs": [{"name": "x", "dtype": "bool", "shape": [1.5]}]}, "whole number"),
        ({"inputs": [{"name": "x", "dtype": "bool", "shape": [2**70]}]}, "whole number"),
        ({"inputs": [{"name": "x", "dtype": "bool", "shape": []}] * 2}, "a name twice"),
        ({"outputs": []}, "is empty"),
        ({"members": {"dense.onnx": {"size": 2**31, "sha256": "0" * 64}}}, "whole number"),
        ({"members": {"dense.onnx": {"size": 0, "sha256": "0"}}}, "sha256"),
        ({"onnxruntime": "1"}, "onnxruntime"),
        ({"tolerance": {"absolute": -1, "relative": 0}}, "number from 0 to 1"),
        ({"tolerance": {"absolute": 0, "relative": 10}}, "number from 0 to 1"),
        ({"provenance": {"plan": 5}}, "printable"),
        ({"examples": [{"inputs": {}, "outputs": {}}]}, "other arrays"),
        (
            {"examples": [{"inputs": {}, "outputs": {"y": {"member": "dense.onnx", "shape": []}}}]},
            "does not fit",
        ),
        (
            {"examples": [{"inputs": {}, "outputs": {"y": {"member": "gone", "shape": []}}}]},
            "names gone",
        ),
    ],
)
def test_bad_manifest(refused, changes, message):
    refused(container(("manifest.json", manifest(**changes)), ("dense.onnx", b"")), message)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"null", b"[]", b"{", b"\xff", b"\xef\xbb\xbf{}", b"[" * 10**5,
        b'{"version": ' + b"1" * 5000 + b"}",
        manifest().replace(b'"relative": 0.1', b'"relative": NaN'),
        manifest().replace(b'"version": 1', b'"version": 1, "version": 1'),
    ],
)  # fmt: skip
def test_manifest_that_is_no_json(refused, text):
    refused(container(("manifest.json", text), ("dense.onnx", b"")), "the manifest")


def test_nothing_loads_from_a_tampered_artifact(save, monkeypatch, tmp_path):
    """Of an artifact with one member changed and re-packed, no byte reaches a loader."""
    path, digest = save(
        dense_contents(), model=network("custom"), libraries=[native_library(b"\x7fELF")]
    )
    loaded = []
    for loader in ("autoprune.runtime.engine.register_library", "onnxruntime.InferenceSession"):
        monkeypatch.setattr(loader, lambda *_, **__: loaded.append(1))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, data in members.items():
        changed = members | {name: data[:-1] + bytes([data[-1] ^ 1])}
        bad = tmp_path / "bad.apz"
        bad.write_bytes(container(*changed.items()))
        with pytest.raises(ArtifactError):
            Session(bad, digest=digest)
        with pytest.raises(ArtifactError):
            Session(bad, trust_native=True, fallback=True)
    assert loaded == []


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        Session(tmp_path / "none.apz")
    with pytest.raises(IsADirectoryError):
        Session(tmp_path)
