"""Which processor this is, and which instructions it has."""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_MACHINES = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "arm64", "arm64": "arm64"}

# Of Linux on arm64, from its asm/hwcap.h: the bit of a feature in each word, by its name there.
_HWCAP, _HWCAP2 = 16, 26
_ARM64_BITS = {
    _HWCAP: {
        "fp": 0, "asimd": 1, "aes": 3, "pmull": 4, "sha1": 5, "sha2": 6, "crc32": 7, "atomics": 8,
        "fphp": 9, "asimdhp": 10, "asimdrdm": 12, "asimddp": 20, "sve": 22, "asimdfhm": 23,
    },
    _HWCAP2: {"sve2": 1, "svei8mm": 9, "svebf16": 12, "i8mm": 13, "bf16": 14, "sme": 23},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cpu:
    """A processor under an operating system.

    Attributes:
        system: the operating system: `linux`, `darwin`, `windows`.
        machine: the architecture: `x86-64`, `arm64`, or what the system calls any other.
        features: instruction set extensions by Linux's names, such as `avx2`, `avx512_vnni`,
            `asimddp`, `i8mm`; `neon` stands beside `asimd`.
    """

    system: str
    machine: str
    features: frozenset[str]


@cache
def this_cpu() -> Cpu:
    """The processor this process runs on.

    Features are only known on Linux; elsewhere the set is empty.
    """
    system = platform.system().lower()
    name = platform.machine().lower()
    machine = _MACHINES.get(name, name)
    features: frozenset[str] = frozenset()
    if system == "linux" and machine == "x86-64":
        features = x86_features(Path("/proc/cpuinfo").read_text(errors="replace"))
    elif system == "linux" and machine == "arm64":
        features = arm64_features(_hardware_word(_HWCAP), _hardware_word(_HWCAP2))
    return Cpu(system, machine, features)


def x86_features(cpuinfo: str) -> frozenset[str]:
    """The features that all cores in the text of /proc/cpuinfo have.

    Unlike the CPUID instruction, it leaves out what the kernel does not support.
    """
    cores = [
        frozenset(value.split())
        for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())
        if key.strip() == "flags"
    ]
    return frozenset.intersection(*cores) if cores else frozenset()


def arm64_features(hwcap: int, hwcap2: int) -> frozenset[str]:
    """The features that the auxiliary vector of a process states."""
    words = {_HWCAP: hwcap, _HWCAP2: hwcap2}
    found = {
        name for word, bits in _ARM64_BITS.items() for name, bit in bits.items()
        if words[word] >> bit & 1
    }  # fmt: skip
    return frozenset(found | {"neon"} if "asimd" in found else found)


def _hardware_word(kind: int) -> int:
    # Not /proc/cpuinfo: under emulation that describes the host or is made up.
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    return int(getauxval(kind))
