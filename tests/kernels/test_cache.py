"""Libraries that are kept: found again, told apart, and no condition for building one."""

from __future__ import annotations

import dataclasses
import os

import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

from autoprune.errors import Notice
from autoprune.passes.kernels import cache
from autoprune.passes.kernels.cpu.rowwise import Rowwise
from autoprune.passes.kernels.cpu.spatial import Spatial
from autoprune.passes.kernels.target import find_target
from autoprune.passes.lower.library import native_library


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
        (target, [make(rows, activation, residual).lower(target)])
        for target in targets
        for make in (Spatial, Rowwise)
        for rows in (8, 16)
        for activation in ("", "gelu")
        for residual in (False, True)
    ]
    keys = {cache.cache_key(*each) for each in described}
    assert len(keys) == len(described)
    target, made = described[0]
    platform = dataclasses.replace(target.platform, compiler="no such compiler")
    assert cache.cache_key(dataclasses.replace(target, platform=platform), made) not in keys
    monkeypatch.setattr(cache, "_generator", lambda: "another")
    assert not keys & {cache.cache_key(*each) for each in described}


@pytest.mark.parametrize("home", ["file", None])
def test_without_a_folder_nothing_is_kept(home, tmp_path, monkeypatch):
    def homeless():
        raise RuntimeError("no home")

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / home) if home else "not/absolute")
    monkeypatch.setattr(cache.Path, "home", homeless)
    cache.keep("key", b"library")
    assert cache.find_cached("key") is None


def kept(folder):
    cache.keep("key", b"library")
    return folder / f"key{cache.ENDING}"


def opened(path):
    path.chmod(path.stat().st_mode | 0o022)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has other rules")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda file, _: opened(file),
        lambda file, _: opened(file.parent),
        lambda file, _: opened(file.parent.parent),
        lambda file, move: move.setattr(os, "geteuid", lambda: file.stat().st_uid + 1),
    ],
    ids=["file", "folder", "folder above", "owner"],
)
def test_what_others_can_write_is_not_used(spoil, folder, monkeypatch):
    spoil(kept(folder), monkeypatch)
    with pytest.warns(Notice, match="built anew"):
        assert cache.find_cached("key") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names")
def test_what_is_no_file_of_ours_is_not_used(folder, tmp_path):
    path = kept(folder)
    path.unlink()
    os.mkfifo(path)
    assert cache.find_cached("key") is None
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(b"library")
    opened(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.warns(Notice, match="built anew"):
        assert cache.find_cached("key") is None
    cache.keep("key", b"library")
    assert cache.find_cached("key") == b"library"
    assert (tmp_path / "elsewhere").read_bytes() == b"library"
    assert not path.is_symlink()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has other rules")
def test_a_link_on_the_way_is_this_user_s(folder, tmp_path, monkeypatch):
    (tmp_path / "own").mkdir(mode=0o700)
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "own")
    cache.keep("key", b"library")
    assert cache.find_cached("key") == b"library"
    lstat = cache.Path.lstat

    def of_another(path):
        status = list(lstat(path))
        status[4] += path == folder
        return os.stat_result(status)

    monkeypatch.setattr(cache.Path, "lstat", of_another)
    with pytest.warns(Notice, match="built anew"):
        assert cache.find_cached("key") is None


def test_nothing_is_kept_where_others_can_write(folder):
    folder.mkdir(parents=True)
    opened(folder)
    with pytest.warns(Notice, match="built anew"):
        cache.keep("key", b"library")
    assert not list(folder.iterdir())


def test_a_planted_library_does_not_get_into_an_artifact(folder, monkeypatch):
    """It has the right name and digest, but lies where anybody could have put it."""
    target = find_target("x86-64-v3")
    key = cache.cache_key(target, [])
    monkeypatch.setattr(
        "autoprune.passes.lower.library.build_library", lambda *a: a[2].write_bytes(b"x")
    )
    cache.keep(key, b"planted")
    assert native_library([], target).data == b"planted"
    opened(folder)
    with pytest.warns(Notice, match="built anew"):
        assert native_library([], target).data == b"x"
