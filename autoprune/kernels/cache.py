"""Libraries of kernels that were built before, in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

from autoprune.ir.files import write_atomically

KEPT = 200
"""Libraries in the folder at most; the ones used last stay."""

ENDING = ".library"
"""Of a file: the SHA-256 digest of a library, and the library."""

DIGEST = 32
"""Bytes of a digest."""


def cache_folder() -> Path:
    """Where libraries are kept: below XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "autoprune", "kernels")


def cache_key(described: object, compiler: str) -> str:
    """What tells a library from all others.

    Args:
        described: what is built and for which processor; its `repr` says all of it.
        compiler: the C compiler's command.
    """
    text = repr((described, version("apache-tvm"), _version_of(compiler), _generator()))
    return hashlib.sha256(text.encode()).hexdigest()


def find_cached(key: str) -> bytes | None:
    """A library that was kept, or None if there is none or it was damaged."""
    path = cache_folder() / f"{key}{ENDING}"
    try:
        kept = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    digest, data = kept[:DIGEST], kept[DIGEST:]
    return data if hashlib.sha256(data).digest() == digest else None


def keep(key: str, data: bytes) -> None:
    """Keep a library, unless the folder cannot be written to."""
    folder = cache_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(folder / f"{key}{ENDING}", hashlib.sha256(data).digest() + data)
        found = sorted(folder.glob(f"*{ENDING}"), key=lambda path: path.stat().st_mtime)
        for old in found[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError:
        # Nothing depends on it but the time of the next build.
        return


@cache
def _generator() -> str:
    """Digest of what makes C and TVM code."""
    files = sorted(p for p in Path(__file__).parent.iterdir() if p.suffix in (".py", ".c", ".h"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@cache
def _version_of(compiler: str) -> str:
    """What a compiler says about itself; empty if it is not installed."""
    try:
        command = [compiler, "--version"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
