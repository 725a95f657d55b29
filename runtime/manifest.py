"""What an artifact says about itself: data, limits and the JSON it is written as.

`manifest_reader` reads that JSON, which may come from anybody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

FORMAT = "autoprune artifact"
VERSION = 1
MANIFEST_NAME = "manifest.json"

DTYPES = (
    "bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
    "uint32", "uint64",
)  # fmt: skip
"""The dtypes inputs and outputs can have, by numpy's names."""

MAX_MANIFEST_SIZE = 2**20
MAX_MEMBERS = 1024
MAX_MEMBER_SIZE = 2**31 - 1
"""Bytes of a member; that of a serialized ONNX model, too."""
MAX_TOTAL_SIZE = 2**33
"""Bytes of all members together."""

Dim = int | str | None
"""A size; the name of a size, equal wherever it occurs; or any size."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of the network."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]

    def __str__(self) -> str:
        sizes = ", ".join("any" if dim is None else str(dim) for dim in self.shape)
        return f"{self.name}: {self.dtype} [{sizes}]"


@dataclass(frozen=True, slots=True)
class Member:
    """A file in the artifact: its bytes, and their SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library that registers the custom operators of `Manifest.model`.

    Attributes:
        member: its name in the artifact.
        system: the operating system it is for, as `Cpu.system`.
        machine: the architecture it is for, as `Cpu.machine`.
        features: what it needs of `Cpu.features`.
        label: how people call the target, such as `x86-64-v4`.
    """

    member: str
    system: str
    machine: str
    features: tuple[str, ...]
    label: str


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array in the artifact: little-endian, row-major; its dtype is that of its input or output.

    Attributes:
        member: the name of its bytes in the artifact.
        shape: its sizes.
    """

    member: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """Inputs by name, and the outputs the network must give on them."""

    inputs: Mapping[str, StoredArray]
    outputs: Mapping[str, StoredArray]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a floating-point output may be off: absolute + relative x its largest magnitude."""

    absolute: float = 1e-6
    relative: float = 1e-4


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of `manifest.json`.

    Attributes:
        inputs: what the network takes.
        outputs: what it returns.
        members: every file beside the manifest, by name.
        dense: the member that is the network in standard ONNX.
        model: the member that is the network with custom operators, or None if it has none.
        libraries: implementations of the custom operators, the best first.
        onnxruntime: the oldest ONNX Runtime that will do, such as `1.23`.
        examples: test vectors.
        tolerance: how well they must be met.
        provenance: where the artifact comes from: the digest of the plan, versions of tools.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    members: Mapping[str, Member]
    dense: str
    onnxruntime: str
    model: str | None = None
    libraries: tuple[Library, ...] = ()
    examples: tuple[Example, ...] = ()
    tolerance: Tolerance = Tolerance()
    provenance: Mapping[str, str] = field(default_factory=dict)

    def stored(self) -> set[str]:
        """The members that the arrays of test vectors are in."""
        return {
            array.member
            for example in self.examples
            for arrays in (example.inputs, example.outputs)
            for array in arrays.values()
        }

    def to_json(self) -> bytes:
        """The manifest as it stands in the artifact; equal manifests give equal bytes."""
        record = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"
