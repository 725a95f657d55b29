"""From what is typed on the command line to a model and its example inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune.cli.imported import failed, imported
from autoprune.cli.inputs import InputSpec, make_arrays
from autoprune.errors import AutopruneError, TraceError
from autoprune.frameworks.torch.pt2 import load_pt2

_PICKLES = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}


def make_inputs(specs: Sequence[InputSpec]) -> Any:
    """Random example inputs: a tuple of tensors, or a dict of them where they are named.

    Raises:
        AutopruneError: if only some are named, a name comes twice, or is no name of an argument.
    """
    for spec in specs:
        if spec.name and not spec.name.isidentifier():
            raise AutopruneError(f"{spec.name!r} is no name of an argument", where="--input")
    arrays = make_arrays(specs)
    dtypes = [getattr(torch, spec.dtype) for spec in specs]
    given = arrays.values() if isinstance(arrays, dict) else arrays
    tensors = [torch.from_numpy(a).to(d) for a, d in zip(given, dtypes, strict=True)]
    return dict(zip(arrays, tensors, strict=True)) if isinstance(arrays, dict) else tuple(tensors)


def load_model(text: str) -> tuple[nn.Module, Any]:
    """The module that MODEL names, and its example inputs or None.

    MODEL is a `.pt2` file or `package.module:callable`. The callable returns the module, or the
    module and its example inputs.

    Raises:
        AutopruneError: if it is neither, or loading it fails.
    """
    path = Path(text)
    if path.suffix == ".pt2":
        return load_pt2(path)
    if ":" in text and path.suffix not in _PICKLES:
        return _module(imported(text), text)
    if path.suffix in _PICKLES:
        raise TraceError(
            f"{path.suffix} files are not loaded: they are pickles, which run code when opened, "
            "and mostly hold weights without the network",
            where=text,
            hint="write a function that builds the network and loads the weights "
            "(weights_only=True), and pass it as package.module:function; or use torch.export.save "
            "and pass the .pt2 file",
        )
    raise TraceError(
        f"{text!r} is no model",
        hint="pass an .onnx or .pt2 file, or package.module:callable, such as "
        "my_package.models:build",
    )


def _module(target: Any, text: str) -> tuple[nn.Module, Any]:
    made, example = target, None
    if callable(target) and not isinstance(target, nn.Module):
        try:
            made = target()
        except Exception as error:
            raise failed(f"calling {text} without arguments failed", error) from error
    if isinstance(made, tuple) and len(made) == 2:
        made, example = made
    if not isinstance(made, nn.Module):
        raise TraceError(
            f"{text} gives a {type(made).__name__}, not a torch.nn.Module",
            hint="return the module, or the module and its example inputs as a pair",
        )
    return made, example
