"""Single operators to be run by operators.c: what it is given, and what it returns."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import helper

from autoprune.passes.kernels.build import C_FOLDER
from autoprune.passes.kernels.target import Target
from tests.arm.emulator import emulate

# Of Debian's cross compiler.
LIBRARIES = Path("/usr/aarch64-linux-gnu")


@dataclass(frozen=True, eq=False)
class Case:
    """An operator with its inputs.

    Attributes:
        operator: its name in the domain `autoprune`.
        attributes: its integer attributes.
        inputs: arrays; None for one that is left out.
    """

    operator: str
    attributes: Mapping[str, int]
    inputs: Sequence[np.ndarray | None]

    def __str__(self) -> str:
        shapes = [None if array is None else array.shape for array in self.inputs]
        return f"{self.operator} {dict(self.attributes)} {shapes}"


@dataclass(frozen=True)
class Refused:
    """What an operator said instead of computing."""

    message: str


def build_driver(target: Target, path: Path) -> None:
    """Compile operators.c."""
    command = [
        target.platform.compiler, "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{C_FOLDER}",
        str(Path(__file__).with_name("operators.c")), "-ldl", "-o", str(path),
    ]  # fmt: skip
    subprocess.run(command, check=True)


def run_cases(
    cpu: str, driver: Path, library: Path, cases: Sequence[Case], folder: Path
) -> list[np.ndarray | Refused]:
    """Run all cases in one emulated process.

    Raises:
        ChildProcessError: if it dies.
    """
    given, results = folder / "cases", folder / "results"
    given.write_bytes(pack_cases(cases))
    done = emulate(cpu, LIBRARIES, driver, library, given, results)
    if done.returncode:
        raise ChildProcessError(f"{done.returncode} on {cpu}: {done.stderr}")
    found = unpack_results(results.read_bytes())
    if len(found) != len(cases):
        raise ChildProcessError(f"{len(found)} results of {len(cases)} cases")
    return found


def pack_cases(cases: Sequence[Case]) -> bytes:
    """The file of cases that operators.c reads."""
    return struct.pack("<q", len(cases)) + b"".join(map(_packed, cases))


def unpack_results(data: bytes) -> list[np.ndarray | Refused]:
    """What operators.c wrote."""
    return list(_unpacked(data))


def _packed(case: Case) -> bytes:
    parts = [_name(case.operator), struct.pack("<q", len(case.attributes))]
    for key, value in case.attributes.items():
        parts += [_name(key), struct.pack("<q", value)]
    parts.append(struct.pack("<q", len(case.inputs)))
    for array in case.inputs:
        if array is None:
            parts.append(struct.pack("<q", 0))
            continue
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        parts += [struct.pack(f"<{2 + array.ndim}q", kind, array.ndim, *array.shape)]
        parts.append(array.tobytes())
    return b"".join(parts)


def _name(text: str) -> bytes:
    return struct.pack("<q", len(text)) + text.encode()


def _unpacked(data: bytes) -> Iterator[np.ndarray | Refused]:
    place = 0

    def integers(count: int) -> tuple[int, ...]:
        nonlocal place
        place += 8 * count
        return struct.unpack_from(f"<{count}q", data, place - 8 * count)

    while place < len(data):
        (size,) = integers(1)
        if size:
            place += size
            yield Refused(data[place - size : place].decode())
            continue
        (ndim,) = integers(1)
        shape = integers(ndim)
        count = int(np.prod(shape, dtype=np.int64))
        yield np.frombuffer(data, np.float32, count, place).reshape(shape)
        place += 4 * count
