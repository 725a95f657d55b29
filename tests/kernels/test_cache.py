"""Libraries that are kept: found again, told apart, and no condition for building one."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

from autoprune.kernels import cache
from autoprune.kernels.build import find_target, rowwise_family, spatial_family


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache.cache_folder()


def test_a_library_is_found_again(folder):
    assert cache.find_cached("key") is None
    cache.keep("key", b"library")
    assert cache.find_cached("key") == b"library"
    assert [path.stem for path in folder.iterdir()] == ["key"]
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("size", [0, 20, 38])
def test_a_damaged_library_is_not_used(size, folder):
    cache.keep("key", b"library")
    (path,) = folder.iterdir()
    os.truncate(path, size)
    assert cache.find_cached("key") is None
    cache.keep("key", b"library")
    assert cache.find_cached("key") == b"library"


def test_what_was_used_last_stays(folder, monkeypatch):
    monkeypatch.setattr(cache, "KEPT", 2)
    for name in ("first", "second"):
        cache.keep(name, b"library")
        os.utime(folder / f"{name}{cache.ENDING}", (1, 1))
    cache.find_cached("first")
    cache.keep("third", b"library")
    assert {path.stem for path in folder.iterdir()} == {"first", "third"}


def test_everything_that_matters_is_in_the_key(monkeypatch):
    targets = [find_target(name) for name in ("x86-64-v4", "x86-64-v4-vnni", "x86-64-v3")]
    described = [
        (target, [make(target, rows, activation, residual=residual)])
        for target in targets
        for make in (spatial_family, rowwise_family)
        for rows in (8, 16)
        for activation in ("", "gelu")
        for residual in (False, True)
    ]
    keys = {cache.cache_key(each, "gcc") for each in described}
    assert len(keys) == len(described)
    assert cache.cache_key(described[0], "no such compiler") not in keys
    monkeypatch.setattr(cache, "_generator", lambda: "another")
    assert not keys & {cache.cache_key(each, "gcc") for each in described}


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.keep("key", b"library")
    assert cache.find_cached("key") is None
