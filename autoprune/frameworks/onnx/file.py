"""ONNX models on disk and in memory: reading, external data, sessions, writing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from onnx import external_data_helper as external

from autoprune.errors import TraceError
from autoprune.frameworks.onnx.functions import inlined
from autoprune.frameworks.onnx.large import (
    MAPPED_FROM,
    bytes_of_tensors,
    copied,
    fits_one_message,
    write_external,
)
from autoprune.frameworks.onnx.limits import check_tensors, tensor_bytes
from autoprune.frameworks.onnx.sessions import open_session
from autoprune.frameworks.onnx.walk import messages, texts_of
from autoprune.ir.files import open_file, read_file, replacing_all, write_atomically

WEIGHTS = frozenset({".pt", ".pth", ".ckpt", ".bin", ".pkl", ".safetensors"})
"""Suffixes of files of weights, which say nothing about the network."""

NEVER_SHOWN = frozenset({"doc_string", "key", "value", "producer_name", "producer_version"})
"""Texts of these fields may be of several lines."""


@dataclass(frozen=True)
class OnnxFile:
    """A model with all its tensors in memory, and where it came from.

    Attributes:
        model: the model; it is never changed.
        path: the file it was read from, or None.
        external: whether its tensors were kept in files of their own.
    """

    model: onnx.ModelProto
    path: Path | None = None
    external: bool = False


def read_onnx(source: str | Path | onnx.ModelProto) -> OnnxFile:
    """Read an ONNX model together with its external data; calls of its functions are inlined.

    Raises:
        TraceError: if the file is missing, truncated, no ONNX model, or refers to data that is
            missing or outside its folder.
    """
    if isinstance(source, onnx.ModelProto):
        for _ in messages(
            onnx.GraphProto, source
        ):  # nested too deeply, it could not even be copied
            pass
        model = copied(source)
        _check_model(model, "the ModelProto")
        for tensor in messages(onnx.TensorProto, model):
            if external.uses_external_data(tensor):
                raise TraceError(
                    "its tensors are in files that were not loaded",
                    where=f"tensor {tensor.name}",
                    hint="pass the path of the file, or load it with its external data",
                )
        check_tensors(model)
        return OnnxFile(inlined(model))
    path = Path(source)
    try:
        data = read_file(path)
    except OSError as error:
        raise TraceError(
            f"the file cannot be read: {error.strerror or error}",
            where=str(path),
            hint=_instead(path),
        ) from error
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # what protobuf raises depends on its implementation
        raise TraceError(
            "this is not an ONNX model, or only a part of one",
            where=str(path),
            hint=_instead(path),
        ) from error
    _check_model(model, str(path))
    kept_outside = [t for t in messages(onnx.TensorProto, model) if external.uses_external_data(t)]
    for tensor in kept_outside:
        _load_external(tensor, path)
    check_tensors(model)
    return OnnxFile(inlined(model), path, bool(kept_outside))


def _instead(path: Path) -> str | None:
    """What to pass where a path of something else than an ONNX model was given."""
    if path.suffix == ".onnx":
        return None
    hint = "paths are of .onnx files; of a torch network pass the module itself, with inputs"
    if path.suffix in WEIGHTS:
        return f"{hint}: build it, and give it these weights by load_state_dict"
    if path.suffix == ".pt2":
        return f"{hint}; on the command line, autoprune inspect and prune take .pt2 files"
    return hint


def _check_model(model: onnx.ModelProto, where: str) -> None:
    _check_texts(model, where)
    if not model.ir_version or not model.graph.output or not model.opset_import:
        raise TraceError("this is not an ONNX model: it has no graph", where=where)
    oldest, version = 7, opset(model)
    if version < oldest:
        raise TraceError(
            f"the model uses opset {version}, the oldest that is read is {oldest}",
            where=where,
            hint="convert it with onnx.version_converter",
        )


def _check_texts(model: onnx.ModelProto, where: str) -> None:
    for field, text in texts_of(model):
        if isinstance(text, bytes):  # so protobuf hands on what it cannot decode
            raise TraceError(
                f"a name in the model is no valid text: {text!r:.60}",
                where=where,
                hint="the file may be damaged",
            )
        # It might steer the terminal that it is shown on.
        if field not in NEVER_SHOWN and not text.isprintable():
            raise TraceError(
                f"the name {text!a} holds characters that cannot be shown",
                where=where,
                hint="give it another name",
            )


def _load_external(tensor: onnx.TensorProto, path: Path) -> None:
    """Put the numbers of a tensor that stands in another file into the model.

    Raises:
        TraceError: if the file is not in the model's folder, or does not hold them.
    """
    where = f"tensor {tensor.name}"
    fields = {entry.key: entry.value for entry in tensor.external_data}
    location = fields.get("location", "")
    folder = path.parent.resolve()
    parts = PurePosixPath(location.replace("\\", "/"))
    outside = parts.is_absolute() or ".." in parts.parts or "\0" in location
    file = folder if outside else (folder / parts).resolve()
    if outside or not file.is_relative_to(folder):
        raise TraceError(
            f"its data would be read from {location!r}, outside the model's folder", where=where
        )
    if len(fields) < len(tensor.external_data) or tensor.data_type == onnx.TensorProto.STRING:
        raise TraceError("it does not say where its data is", where=where)
    size, start = tensor_bytes(tensor), _whole(fields.get("offset", "0"), where)
    stated = _whole(fields.get("length", str(size)), where)
    try:
        if stated != size:
            raise ValueError(f"{stated} bytes are no tensor of shape {list(tensor.dims)}")
        with open_file(file) as opened:
            if start + size > os.fstat(opened.fileno()).st_size:
                raise ValueError(f"it ends before byte {start + size}")
            opened.seek(start)
            tensor.raw_data = opened.read(size)
    except (OSError, ValueError) as error:
        raise TraceError(
            f"its data cannot be read from {location!r}: {error}",
            where=where,
            hint="external data has to lie beside the .onnx file",
        ) from error
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _whole(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise TraceError(f"its data has {text!r:.40} for an offset or a length", where=where)
    return int(text)


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operators that the model uses."""
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return max(versions, default=onnx.defs.onnx_opset_version())


def session_for(
    model: onnx.ModelProto,
    threads: int = 0,
    *,
    optimize: bool = True,
    outputs: Collection[str] = (),
) -> Any:
    """An ONNX Runtime session for a model of any size.

    Args:
        model: the model.
        threads: threads it may use; 0 for as many as there are cores.
        optimize: whether ONNX Runtime may fuse and reorder operators.
        outputs: values that the session can also return.
    """
    with tempfile.TemporaryDirectory() as folder, _more_outputs(model, outputs):
        if bytes_of_tensors(model) < MAPPED_FROM and fits_one_message(model):
            return open_session(model.SerializeToString(), threads, optimize=optimize)
        path, data = Path(folder, "model.onnx"), Path(folder, "model.data")
        with path.open("wb") as graph, data.open("wb") as tensors:
            write_external(model, graph, tensors, data.name)
        return open_session(path, threads, optimize=optimize)


def write_onnx(model: onnx.ModelProto, path: Path, *, external: bool = False) -> None:
    """Write a model.

    Args:
        model: the model.
        path: the file; with external data, `path` + `.data` holds the tensors.
        external: put the tensors into a file of their own even if one file could hold everything.

    Raises:
        OSError: if the folder does not exist or cannot be written to.
    """
    if not external and fits_one_message(model):
        write_atomically(path, model.SerializeToString())
        return
    data = f"{path.name}.data"
    with replacing_all(path, path.with_name(data)) as (graph, tensors):
        write_external(model, graph, tensors, data)


@contextmanager
def _more_outputs(model: onnx.ModelProto, names: Collection[str]) -> Iterator[None]:
    """A model with more of its values among its outputs for a while; a copy would be large."""
    own = len(model.graph.output)
    present = {o.name for o in model.graph.output}
    try:
        for name in dict.fromkeys(names):
            if name not in present:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
        yield
    finally:
        del model.graph.output[own:]
