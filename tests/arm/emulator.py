"""Running arm64 programs on emulated processors, one process at a time.

An emulated process cannot start others, so whatever a test runs there is one program.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.arm.userland import find_userland, missing_packages

CPUS = {
    "cortex-a72": {"neon"},
    "neoverse-n1": {"neon", "asimddp"},
    "max,sve=off,sme=off": {"neon", "asimddp", "i8mm"},
}
"""What qemu calls processors, and which of the features that kernels may use these have."""

# Short enough to say that an emulator hangs, long enough for a busy machine.
TIMEOUT = 240


def least_cpu(features: Iterable[str]) -> str:
    """The processor with the fewest features among those that have these."""
    return next(cpu for cpu, has in CPUS.items() if has >= set(features))


def need_tools() -> None:
    """Skip the test, or fail it where REQUIRE_ARM is set, if this machine cannot emulate arm64."""
    if packages := missing_packages():
        _give_up(f"needs {', '.join(packages)} (Debian's names); make test-arm installs them")


def need_userland() -> Path:
    """The arm64 userland; skip or fail the test as `need_tools` if there is none."""
    need_tools()
    root = find_userland()
    if root is None:
        _give_up("there is no arm64 userland, or an old one; make test-arm builds it")
    return root


def _give_up(reason: str) -> None:
    if os.environ.get("REQUIRE_ARM"):
        pytest.fail(reason)
    pytest.skip(reason)


def emulate(
    cpu: str, root: Path, *command: object, env: dict[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run an arm64 program, whatever it returns.

    Args:
        cpu: one of `CPUS`.
        root: where the program finds its libraries.
        command: the program, and what it is given.
        env: its environment, which has nothing of this process's.
        stdin: what it reads.
    """
    # Programs that are meant to die shall leave no image of their memory.
    words = ["prlimit", "--core=0", "qemu-aarch64", "-cpu", cpu, "-L", root, *command]
    return subprocess.run(
        [str(word) for word in words],
        env={"PATH": os.environ["PATH"], **(env or {})},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
