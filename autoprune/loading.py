"""From what is typed on the command line to a model and its example inputs."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune.errors import AutopruneError, TraceError
from autoprune.pt2 import load_pt2

_INPUT = re.compile(
    r"(?:(?P<name>[^=:]+)=)?(?P<shape>[^=:]+)(?::(?P<dtype>[^:]+))?(?::(?P<below>[^:]+))?"
)
_DTYPES = {
    name: getattr(torch, name)
    for name in (
        "float32", "float64", "float16", "bfloat16",
        "int64", "int32", "int16", "int8", "uint8", "bool",
    )
}  # fmt: skip
_PICKLES = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One `--input`.

    Attributes:
        shape: sizes of the tensor.
        dtype: a torch dtype by name.
        name: keyword of the forward method, or empty for a positional input.
        below: integers are drawn from 0 to one less than this.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    name: str = ""
    below: int = 2

    def tensor(self, generator: torch.Generator) -> torch.Tensor:
        """Random values of this shape and dtype."""
        dtype = _DTYPES[self.dtype]
        if dtype == torch.bool:
            return torch.ones(self.shape, dtype=dtype)
        if dtype.is_floating_point:
            return torch.randn(self.shape, generator=generator).to(dtype)
        return torch.randint(0, self.below, self.shape, generator=generator).to(dtype)


def parse_input(text: str) -> InputSpec:
    """Read `1x3x224x224`, `ids=1x128:int64` or `ids=1x128:int64:30522`.

    Raises:
        AutopruneError: saying which part is wrong.
    """
    hint = "write 1x3x224x224, or name=1x128:int64, or name=1x128:int64:30522 (values below 30522)"

    def wrong(what: str) -> AutopruneError:
        return AutopruneError(what, where=f"--input {text}", hint=hint)

    match = _INPUT.fullmatch(text.strip())
    if match is None:
        raise wrong("an input is [name=]shape[:dtype[:upper bound]]")
    sizes = match["shape"].split("x")
    if not all(size.isascii() and size.isdigit() and int(size) > 0 for size in sizes):
        raise wrong(f"{match['shape']!r} is no shape: sizes are whole numbers joined by 'x'")
    dtype = match["dtype"] or "float32"
    if dtype not in _DTYPES:
        raise wrong(f"{dtype!r} is no dtype; known are {', '.join(_DTYPES)}")
    if match["name"] and not match["name"].isidentifier():
        raise wrong(f"{match['name']!r} is no name of an argument")
    below = match["below"]
    if below is not None and (not below.isdigit() or int(below) < 1 or "int" not in dtype):
        raise wrong("an upper bound is a whole number from 1, for an integer input")
    return InputSpec(
        tuple(int(size) for size in sizes), dtype, match["name"] or "", int(below or 2)
    )


def make_inputs(specs: Sequence[InputSpec], seed: int = 0) -> Any:
    """Random example inputs: a tuple, or a dict where they are named.

    Raises:
        AutopruneError: if only some are named, or a name comes twice.
    """
    generator = torch.Generator().manual_seed(seed)
    named = [spec.name for spec in specs if spec.name]
    if named and len(named) < len(specs):
        raise AutopruneError(
            "some inputs are named and some are not", hint="name all of them, or none"
        )
    if len(set(named)) < len(named):
        raise AutopruneError("an input is given twice", where="--input " + ", ".join(named))
    tensors = [spec.tensor(generator) for spec in specs]
    return dict(zip(named, tensors, strict=True)) if named else tuple(tensors)


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
    if ":" in text and path.suffix not in _PICKLES | {".onnx"}:
        return _call(text)
    if path.suffix in _PICKLES:
        raise TraceError(
            f"{path.suffix} files are not loaded: they are pickles, which run code when opened, "
            "and mostly hold weights without the network",
            where=text,
            hint="write a function that builds the network and loads the weights "
            "(weights_only=True), and pass it as package.module:function; or use torch.export.save "
            "and pass the .pt2 file",
        )
    if path.suffix == ".onnx":
        raise TraceError(
            "ONNX files can be written but not yet read",
            where=text,
            hint="prune the torch model and save it as .onnx",
        )
    raise TraceError(
        f"{text!r} is no model",
        hint="pass a .pt2 file or package.module:callable, such as my_package.models:build",
    )


def _call(text: str) -> tuple[nn.Module, Any]:
    module_name, _, attribute = text.partition(":")
    if module_name.endswith(".py") or "/" in module_name:
        raise TraceError(
            f"{module_name!r} is a path, not the name of a module",
            where=text,
            hint=f"write {Path(module_name).stem}:{attribute} and run from its folder",
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise TraceError(
            f"there is no module {error.name!r}",
            where=text,
            hint=f"run from the folder that holds it (now {here}), or install it",
        ) from error
    except Exception as error:
        raise _failed(f"importing {module_name} failed", error) from error
    for name in attribute.split("."):
        if not hasattr(target, name):
            raise TraceError(
                f"{module_name!r} has no {attribute!r}", where=text, hint=_suggest(target)
            )
        target = getattr(target, name)
    return _module(target, text)


def _module(target: Any, text: str) -> tuple[nn.Module, Any]:
    made, example = target, None
    if callable(target) and not isinstance(target, nn.Module):
        try:
            made = target()
        except Exception as error:
            raise _failed(f"calling {text} without arguments failed", error) from error
    if isinstance(made, tuple) and len(made) == 2:
        made, example = made
    if not isinstance(made, nn.Module):
        raise TraceError(
            f"{text} gives a {type(made).__name__}, not a torch.nn.Module",
            hint="return the module, or the module and its example inputs as a pair",
        )
    return made, example


def _suggest(target: Any) -> str:
    public = [n for n, v in vars(target).items() if callable(v) and not n.startswith("_")]
    return "it has " + ", ".join(public[:8]) if public else "it has no callables"


def _failed(what: str, error: Exception) -> TraceError:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    line = (str(error).strip() or "no message").splitlines()[0]
    return TraceError(
        f"{what}: {type(error).__name__}: {line}",
        where=f"{frame.filename}:{frame.lineno}: {frame.line}",
    )
