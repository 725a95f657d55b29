"""An arm64 userland to be emulated: Debian's Python with numpy and ONNX Runtime, in .venv/arm64.

    python -m tests.arm.userland

installs what this machine lacks to emulate arm64 (as root; otherwise it says what to install) and
builds the userland, unless an equal one is there. Nothing is installed into the system for it:
packages come from the machine's own apt sources, and are unpacked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".venv" / "arm64"

TOOLS = {
    "qemu-aarch64": "qemu-user",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
}
"""Programs of this machine, and the Debian packages they are in."""

LIBC = "libc6-dev-arm64-cross"
"""The package with headers and libraries of C for arm64."""

DEBIAN = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
"""Packages of the userland; apt adds those they need."""

WHEELS = tuple(f"{name}=={version(name)}" for name in ("numpy", "onnxruntime"))
"""Of the versions that are installed here."""

PLATFORMS = ("manylinux2014_aarch64", *(f"manylinux_2_{n}_aarch64" for n in range(17, 37)))
"""What wheels may be built for: glibc up to that of Debian 12."""

# ONNX Runtime reads the processor's model here when it is imported, and fails on the x86 one.
CPUINFO = """\
processor\t: 0
BogoMIPS\t: 100.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3
"""

PINS = "\n".join((*DEBIAN, *WHEELS, *PLATFORMS, CPUINFO))
"""A userland is built anew when this changes."""


# Of the Python that runs here; that of the userland would follow them.
_HOST_ONLY = {"LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"}


def find_userland() -> Path | None:
    """The userland, if it is there and up to date."""
    stamp = FOLDER / "stamp"
    return FOLDER if stamp.is_file() and stamp.read_text() == PINS else None


def missing_packages() -> list[str]:
    """Debian packages with what this machine lacks to compile for arm64 and to emulate it."""
    found = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if not Path("/usr/aarch64-linux-gnu/include/stdio.h").is_file():
        found.append(LIBC)
    return found


def main() -> None:
    """Install the tools and build the userland, where needed."""
    if missing := missing_packages():
        _install(missing)
    if find_userland() is None:
        _build()


def _install(packages: list[str]) -> None:
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if shutil.which("apt-get") is None:
        sys.exit(f"emulating arm64 needs what Debian has in {' '.join(packages)}: install that")
    if os.geteuid():
        sys.exit(f"emulating arm64 needs some packages: sudo {' '.join(install)}")
    _run("apt-get", "update")
    _run(*install)


def _build() -> None:
    FOLDER.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="arm64-", dir=FOLDER.parent) as name:
        folder = Path(name)
        root = folder / "root"
        _unpack_packages(folder, root)
        _unpack_wheels(root)
        (root / "proc").mkdir(exist_ok=True)
        (root / "proc/cpuinfo").write_text(CPUINFO)
        _run(
            "qemu-aarch64", "-cpu", "cortex-a72", "-L", str(root), str(root / "usr/bin/python3"),
            "-c", "import onnxruntime",
        )  # fmt: skip
        (root / "stamp").write_text(PINS)
        if FOLDER.exists():
            FOLDER.rename(folder / "old")
        root.rename(FOLDER)


def _unpack_packages(folder: Path, root: Path) -> None:
    """Packages by apt with a state of its own, as on a machine where nothing is installed."""
    for kind in ("state/lists/partial", "cache/archives/partial"):
        (folder / kind).mkdir(parents=True)
    (folder / "status").touch()
    settings = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "1",
    }
    apt = ["apt-get", "--quiet", *(f"--option={key}={value}" for key, value in settings.items())]
    _run(*apt, "update")
    _run(*apt, "--yes", "--download-only", "install", *DEBIAN)
    for package in sorted((folder / "cache/archives").glob("*.deb")):
        _run("dpkg-deb", "--extract", str(package), str(root))


def _unpack_wheels(root: Path) -> None:
    python = (root / "usr/bin/python3").readlink().name.removeprefix("python")
    _run(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet",
        "--only-binary=:all:", "--no-compile", "--implementation=cp", f"--python-version={python}",
        *(f"--platform={platform}" for platform in PLATFORMS),
        f"--target={root / 'usr/lib/python3/dist-packages'}", *WHEELS,
    )  # fmt: skip


def _run(*command: str) -> None:
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={
            "DEBIAN_FRONTEND": "noninteractive",
            "ORT_DISABLE_TELEMETRY": "1",
            "PYTHONNOUSERSITE": "1",
            **{k: v for k, v in os.environ.items() if k not in _HOST_ONLY},
        },
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{' '.join(command)}: failed with {done.returncode}")


if __name__ == "__main__":
    main()
