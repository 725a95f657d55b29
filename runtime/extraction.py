"""An artifact as a folder of plain files, for programs that run it without this runtime.

model.onnx              what runs: with native code the model that needs it
operators.so            the native code for this processor, if it is trusted
examples/0/input0.npy   test vectors
manifest.json           what belongs to what
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .archive import Archive, open_archive
from .arrays import load_arrays
from .choice import Started, start_chosen
from .folders import making_folder
from .manifest import StoredArray, TensorSpec
from .native import SUFFIXES

MODEL = "model.onnx"


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was written.

    Attributes:
        folder: where.
        digest: of the artifact.
        backend: what the model runs with: `native` and the library's label, or `dense`.
        notice: why that is `dense` although there is native code, or None.
    """

    folder: Path
    digest: str
    backend: str
    notice: str | None


def extract(
    path: str | Path,
    folder: str | Path,
    *,
    digest: str | None = None,
    trust_native: bool = False,
    native: bool = True,
    fallback: bool = False,
) -> Extracted:
    """Write the model, the native code for this processor and the test vectors of an artifact.

    Everything is checked as for a `Session`, and the model is loaded once. The names of the files
    are this function's own.

    Args:
        path: the `.apz` file.
        folder: a path at which there is nothing, or an empty folder.
        digest: as for `Session`.
        trust_native: as for `Session`.
        native: as for `Session`.
        fallback: as for `Session`.

    Raises:
        ArtifactError: as `Session`.
        TargetError: as `Session`.
        OSError: if the artifact cannot be read, there is something at `folder`, or it cannot be
            written to; nothing is written then.
    """
    with making_folder(folder) as made, open_archive(path, digest) as archive:
        trusted = trust_native or digest is not None
        started = start_chosen(
            archive, trusted=trusted, native=native, fallback=fallback, threads=1
        )
        _write(archive, started, made)
        return Extracted(Path(folder), archive.digest, started.backend, started.notice)


def _write(archive: Archive, started: Started, folder: Path) -> None:
    manifest, library = archive.manifest, started.library
    model = (library and manifest.model) or manifest.dense
    members = archive.read({model, *([library.member] if library else [])})
    (folder / MODEL).write_bytes(members[model])
    file = None
    if library:
        file = f"operators{SUFFIXES.get(library.system, '.so')}"
        (folder / file).write_bytes(members[library.member])

    def save(
        stored: Mapping[str, StoredArray], specs: tuple[TensorSpec, ...], stem: str
    ) -> dict[str, str]:
        arrays = load_arrays(stored, specs, started.stored)
        names = {spec.name: f"{stem}{place}.npy" for place, spec in enumerate(specs)}
        for name, array in arrays.items():
            np.save(folder / names[name], array, allow_pickle=False)
        return names

    examples = []
    for place, example in enumerate(manifest.examples):
        (folder / "examples" / str(place)).mkdir(parents=True)
        stem = f"examples/{place}"
        examples.append(
            {
                "inputs": save(example.inputs, manifest.inputs, f"{stem}/input"),
                "outputs": save(example.outputs, manifest.outputs, f"{stem}/output"),
            }
        )
    record = {
        "artifact": archive.digest,
        "backend": started.backend,
        "model": MODEL,
        "library": file,
        "onnxruntime": manifest.onnxruntime,
        "inputs": [asdict(spec) for spec in manifest.inputs],
        "outputs": [asdict(spec) for spec in manifest.outputs],
        "examples": examples,
        "tolerance": asdict(manifest.tolerance),
        "provenance": dict(manifest.provenance),
    }
    (folder / "manifest.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
