"""Libraries of kernels that were built before, in the user's cache folder.

They are loaded and shipped in artifacts, so one is used only if nobody but this user can have put
it there: the file and its folder are this user's and no others may write to them, and nobody
can replace the folder.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import stat
import subprocess
import warnings
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

from autoprune.errors import Notice
from autoprune.ir.files import open_file, write_atomically
from autoprune.passes.kernels.kernel import Lowered
from autoprune.passes.kernels.target import Target

KEPT = 200
"""Libraries in the folder at most; the ones used last stay."""

ENDING = ".library"
"""Of a file: the SHA-256 digest of a library, and the library."""

DIGEST = 32
"""Bytes of a digest."""


def cache_folder() -> Path:
    """Where libraries are kept: below XDG_CACHE_HOME, or ~/.cache.

    Raises:
        RuntimeError: if this user has no home.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return Path(root if root.is_absolute() else Path.home() / ".cache", "autoprune", "kernels")


def cache_key(target: Target, kernels: Sequence[Lowered]) -> str:
    """What tells a library from all others.

    Args:
        target: the processor.
        kernels: what is built; what prints alike is alike, if it is made by the same files.
    """
    makers = {inspect.getfile(type(function)) for k in kernels for function in k.functions}
    described = (
        target, kernels, version("apache-tvm"), _version_of(target.platform.compiler),
        _generator(), [hashlib.sha256(Path(path).read_bytes()).digest() for path in sorted(makers)],
    )  # fmt: skip
    return hashlib.sha256(repr(described).encode()).hexdigest()


def find_cached(key: str) -> bytes | None:
    """A library that was kept, or None if there is none, or it was damaged or is not trusted."""
    try:
        path = cache_folder() / f"{key}{ENDING}"
        if not _is_trusted(path.parent):
            return None
        with open_file(path) as file:
            if not _is_own(path, os.fstat(file.fileno())):
                return None
            kept = file.read()
        os.utime(path)
    except (OSError, RuntimeError):
        return None
    digest, data = kept[:DIGEST], kept[DIGEST:]
    return data if hashlib.sha256(data).digest() == digest else None


def keep(key: str, data: bytes) -> None:
    """Keep a library, unless the folder cannot be written to or others can write to it."""
    try:
        folder = cache_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_trusted(folder):
            return
        write_atomically(folder / f"{key}{ENDING}", hashlib.sha256(data).digest() + data)
        found = sorted(folder.glob(f"*{ENDING}"), key=lambda path: path.lstat().st_mtime)
        for old in found[:-KEPT]:
            old.unlink(missing_ok=True)
    except (OSError, RuntimeError):
        # Nothing depends on it but the time of the next build.
        return


def _is_trusted(folder: Path) -> bool:
    """Whether only this user and root can change what is in a folder, and replace it."""
    resolved = folder.resolve(strict=True)
    on_the_way = (*resolved.parents, folder, *folder.parents)  # links are, too
    return _is_own(resolved, resolved.stat()) and all(
        _is_safe(path, path.lstat()) for path in on_the_way
    )


def _is_own(path: Path, status: os.stat_result) -> bool:
    """Whether a file or folder is this user's, and only this user can write to it."""
    if not hasattr(os, "geteuid"):  # Windows keeps what is below a user's folder from others
        return True
    if status.st_uid == os.geteuid() and not _is_open(status):
        return True
    _notice(path, f"owned by user {status.st_uid}, with mode {stat.filemode(status.st_mode)}")
    return False


def _is_safe(path: Path, status: os.stat_result) -> bool:
    """Whether nobody else can replace what this user has in a folder, or where a link leads."""
    if not hasattr(os, "geteuid"):
        return True
    ours = status.st_uid in (0, os.geteuid())
    shared = _is_open(status) and not status.st_mode & stat.S_ISVTX
    if ours and (stat.S_ISLNK(status.st_mode) or not shared):
        return True
    _notice(path, "others can replace what is in it")
    return False


def _is_open(status: os.stat_result) -> bool:
    """Whether others may write; a group of the user's own number has nobody else in it."""
    private = status.st_gid == os.getegid() == os.geteuid()
    others = stat.S_IWOTH if private else stat.S_IWOTH | stat.S_IWGRP
    return bool(status.st_mode & others)


def _notice(path: Path, why: str) -> None:
    warnings.warn(
        f"kernels are built anew, as others may have written those kept in {path} ({why}); make "
        "it yours with chown and chmod go-w, or set XDG_CACHE_HOME to a folder that is",
        Notice,
        stacklevel=3,
    )


@cache
def _generator() -> str:
    """Digest of what makes C and TVM code."""
    files = sorted(p for p in Path(__file__).parent.rglob("*") if p.suffix in (".py", ".c", ".h"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@cache
def _version_of(compiler: str) -> str:
    """What a compiler says about itself; empty if it is not installed."""
    try:
        command = [compiler, "--version"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
