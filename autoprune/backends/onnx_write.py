"""ONNX models to files, all of them or nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from autoprune.frontends.onnx_large import fits_one_message, write_external
from autoprune.ir.files import write_atomically


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
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        written = Path(folder) / path.name
        write_external(model, written, data)
        tensors = Path(folder) / data
        if tensors.exists():  # small tensors stay in the graph
            tensors.replace(path.with_name(data))
        written.replace(path)
