"""ONNX models to files, all of them or nothing."""

from __future__ import annotations

from pathlib import Path

import onnx

from autoprune.frameworks.onnx.large import fits_one_message, write_external
from autoprune.ir.files import replacing_all, write_atomically


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
