"""The network itself, inside what compiles it, trains it in parallel, or makes a product of it."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils import _pytree as pytree

from autoprune.errors import TraceError
from autoprune.frameworks.torch.objects import tensors_in

MOST = 0.9
"""Share of a model's parameters that a network inside has to have to be what is meant."""


def network_of(model: Any) -> nn.Module:
    """A module without the wrappers of `torch.compile` and of data parallelism, wherever they are.

    It shares its parameters, which lose the prefixes `_orig_mod.` and `module.` in their names.

    Raises:
        TraceError: if it is no module, naming those that it holds.
    """
    if isinstance(model, nn.Module):
        return _unwrapped(model, {})
    got, hint = _mistaken(model)
    raise TraceError(f"a torch.nn.Module is needed, got {got}", hint=hint)


def _mistaken(model: Any) -> tuple[str, str]:
    """What was given instead of a module, and what to give."""
    if isinstance(model, type):
        return f"the class {model.__name__}", f"make a network of it: {model.__name__}(...)"
    if inside := sorted(_held(model), key=lambda held: -_size(held[1])):
        named = (f"{name} ({type(m).__name__}, {_size(m):,} parameters)" for name, m in inside[:5])
        hint = f"it holds networks: pass one of {', '.join(named)}, with the inputs of its forward"
        return type(model).__name__, hint
    if isinstance(model, Mapping) and any(isinstance(v, torch.Tensor) for v in model.values()):
        hint = "build the network, load these with load_state_dict, and pass the network"
        return f"weights without a network ({type(model).__name__})", hint
    if isinstance(model, FunctionType):
        return f"the function {model.__name__}", "call it, and pass the network that it returns"
    return type(model).__name__, "pass the network itself, or the path of an .onnx file"


def _unwrapped(module: nn.Module, known: dict[nn.Module, nn.Module]) -> nn.Module:
    if module in known:
        return known[module]
    inside = module
    while (wrapped := _wrapped(inside)) is not None:
        inside = wrapped
    known[module] = inside
    changed = {
        name: plain
        for name, child in inside._modules.items()
        if child is not None and (plain := _unwrapped(child, known)) is not child
    }
    if changed:
        # A shallow copy: what it keeps is what the user trains.
        known[module] = shell = copy.copy(inside)
        shell._modules = {**inside._modules, **changed}
    return known[module]


def _wrapped(module: nn.Module) -> nn.Module | None:
    compiled = sys.modules.get("torch._dynamo.eval_frame")
    if compiled is not None and isinstance(module, compiled.OptimizedModule):
        inside: nn.Module = module._orig_mod
        return inside
    return module.module if isinstance(module, DataParallel | DistributedDataParallel) else None


def _held(thing: Any) -> Iterator[tuple[str, nn.Module]]:
    """Modules among the attributes of an object, alone or in a dict, as one writes them."""
    attributes = thing if isinstance(thing, dict) else getattr(thing, "__dict__", {})
    for name, value in () if isinstance(thing, type) else attributes.items():
        path = f"model[{name!r}]" if isinstance(thing, dict) else f"model.{name}"
        if isinstance(value, nn.Module):
            yield path, value
        elif isinstance(value, dict):
            for key, part in value.items():
                if isinstance(part, nn.Module):
                    yield f"{path}[{key!r}]", part


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def network_inside(model: nn.Module, args: Any, kwargs: Any) -> str:
    """How to get at the module inside that runs on the inputs and is most of a model, if one is.

    Such are wrappers whose own forward takes files, or returns no tensors.
    """
    most = MOST * _size(model)
    for name, child in model.named_children():
        is_network = next(child.children(), None) is not None and _size(child) >= most
        if is_network and _runs(child, args, kwargs):
            return f"pass `model.{name}`, of class {type(child).__name__}, which runs on them"
    return ""


def _runs(module: nn.Module, args: Any, kwargs: Any) -> bool:
    """Whether a module makes tensors of the inputs."""
    try:
        with torch.no_grad():
            outputs = copy.deepcopy(module).eval()(*args, **kwargs)
    except Exception:  # whatever it is, the module is no answer
        return False
    return any(map(tensors_in, pytree.tree_leaves(outputs)))
