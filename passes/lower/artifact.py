"""Compiled networks to files. `autoprune.runtime` reads them; how they look is written there."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from autoprune.errors import ArtifactError
from autoprune.ir.files import replacing
from autoprune.runtime.archive import read_archive
from autoprune.runtime.arrays import Arrays, array_bytes, check_inputs
from autoprune.runtime.container import DEFLATED, MAX_RATIO, STORED, Entry, end_record
from autoprune.runtime.errors import AutopruneRuntimeError
from autoprune.runtime.manifest import (
    MANIFEST_NAME,
    Example,
    Library,
    Manifest,
    Member,
    StoredArray,
    TensorSpec,
    Tolerance,
)
from autoprune.runtime.self_contained import check_self_contained


@dataclass(frozen=True, slots=True)
class NativeLibrary:
    """A shared library with the custom operators; see `autoprune.runtime.manifest.Library`."""

    data: bytes
    system: str
    machine: str
    features: tuple[str, ...]
    label: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What goes into an artifact.

    Attributes:
        inputs: what the network takes.
        outputs: what it returns.
        dense: the network in standard ONNX, serialized.
        model: the network with custom operators, serialized, or None if it has none.
        libraries: implementations of the custom operators, the best first.
        examples: test vectors: inputs, and the outputs they must give.
        sources: any other files by name, such as the portable source of the operators.
        onnxruntime: the oldest ONNX Runtime that will do.
        tolerance: how well the test vectors must be met.
        provenance: where the artifact comes from, such as the digest of the plan and versions of
            tools. A time would make the artifact another one each time it is compiled.
    """

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    dense: bytes
    model: bytes | None = None
    libraries: Sequence[NativeLibrary] = ()
    examples: Sequence[tuple[Arrays, Arrays]] = ()
    sources: Mapping[str, bytes] = field(default_factory=dict)
    onnxruntime: str = "1.23"
    tolerance: Tolerance = field(default_factory=Tolerance)
    provenance: Mapping[str, str] = field(default_factory=dict)


def write_artifact(path: str | Path, contents: Contents) -> str:
    """Write an artifact, all of it or nothing.

    Equal contents give equal bytes (and with another zlib, at least an equal digest).

    Returns:
        Its digest, with which the runtime trusts the native code in it.

    Raises:
        ArtifactError: if the contents contradict each other or exceed the format's limits.
        OSError: if the folder does not exist or cannot be written to.
    """
    with _as_ours(path):
        check_self_contained(contents.dense, "the standard model")
        if contents.model is not None:
            check_self_contained(contents.model, "the model with custom operators")
        members: dict[str, bytes] = {}
        data = _manifest(contents, members).to_json()
        digest = hashlib.sha256(data).hexdigest()
        with replacing(path) as file:
            _write(file, {MANIFEST_NAME: data} | dict(sorted(members.items())))
            file.flush()
            # What the runtime would refuse is refused here.
            read_archive(file, digest).read()
    return digest


@contextmanager
def _as_ours(path: str | Path) -> Iterator[None]:
    """Raise as autoprune's what the runtime raises as its own."""
    try:
        yield
    except AutopruneRuntimeError as error:
        raise ArtifactError(error.what, where=error.where or str(path), hint=error.hint) from error


def _manifest(contents: Contents, members: dict[str, bytes]) -> Manifest:
    """The manifest of the contents, whose members are added to `members`."""

    def add(name: str, data: bytes) -> str:
        if name in members or name == MANIFEST_NAME:
            raise ArtifactError("a source has the name of another member", where=name)
        members[name] = data
        return name

    for name, source in contents.sources.items():
        add(name, source)
    dense = add("dense.onnx", contents.dense)
    model = None if contents.model is None else add("model.onnx", contents.model)
    libraries = tuple(
        Library(
            add(f"libraries/{index}", lib.data), lib.system, lib.machine, lib.features, lib.label
        )
        for index, lib in enumerate(contents.libraries)
    )

    def store(arrays: Arrays, specs: Sequence[TensorSpec], folder: str) -> dict[str, StoredArray]:
        check_inputs(arrays, specs)
        return {
            spec.name: StoredArray(
                add(f"{folder}{index}", array_bytes(arrays[spec.name])), arrays[spec.name].shape
            )
            for index, spec in enumerate(specs)
        }

    examples = tuple(
        Example(
            store(inputs, contents.inputs, f"examples/{index}/input"),
            store(outputs, contents.outputs, f"examples/{index}/output"),
        )
        for index, (inputs, outputs) in enumerate(contents.examples)
    )
    return Manifest(
        inputs=tuple(contents.inputs),
        outputs=tuple(contents.outputs),
        members={
            name: Member(len(data), hashlib.sha256(data).hexdigest())
            for name, data in members.items()
        },
        dense=dense,
        model=model,
        libraries=libraries,
        onnxruntime=contents.onnxruntime,
        examples=examples,
        tolerance=contents.tolerance,
        provenance=dict(contents.provenance),
    )


def _write(file: BinaryIO, members: Mapping[str, bytes]) -> None:
    entries = []
    for name, data in members.items():
        method, packed = _pack(data)
        entry = Entry(name, method, zlib.crc32(data), len(packed), len(data), file.tell())
        file.write(entry.header())
        file.write(packed)
        entries.append(entry)
    offset = file.tell()
    directory = b"".join(entry.record() for entry in entries)
    file.write(directory)
    file.write(end_record(len(entries), len(directory), offset))


def _pack(data: bytes) -> tuple[int, bytes]:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = compressor.compress(data) + compressor.flush()
    smaller = len(packed) < len(data) <= len(packed) * MAX_RATIO
    return (DEFLATED, packed) if smaller else (STORED, data)
