"""Which weights of a module become sparse, as matrices, and in which format each.

A module alone, as it is trained, says which parameters its layers multiply by; how they do is seen
once it is traced (`gram`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from autoprune.passes.patterns import matches
from autoprune.passes.sparsify.selection import Candidate, SparseWeight, select
from autoprune.passes.sparsify.specs import FormatSpec, unusual_shape

# What torch.export writes, and what `autoprune.to_torch` does.
_LINEAR = (torch.ops.aten.linear.default, functional.linear)
_CONV = (
    *(getattr(torch.ops.aten, f"conv{dims}d").default for dims in (1, 2, 3)),
    *(getattr(torch, f"conv{dims}d") for dims in (1, 2, 3)),
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Weight(SparseWeight):
    """A parameter that becomes sparse."""

    parameter: nn.Parameter


def find_weights(
    model: nn.Module, format: FormatSpec, ignore: Sequence[str], *, trained: bool = False
) -> tuple[tuple[Weight, ...], dict[str, str]]:
    """The weights that become sparse, and why those of other layers stay dense, by name.

    Args:
        model: the network.
        format: `auto`, `auto int8` or a format for all linear layers and convolutions, or formats
            by the names or patterns of any layers, or of other parameters if they end with their
            names; the first pattern that matches counts.
        ignore: names or patterns of modules or parameters to leave dense.
        trained: whether frozen weights stay dense.

    Raises:
        AutopruneError: if a pattern matches nothing.
        FormatError: if a format is unknown, or fits no layer.
    """
    named = tuple(format) if isinstance(format, Mapping) else ()
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    candidates = _candidates(model, named, trained)
    others = {} if named else dict(_computed(model))
    chosen, reasons = select(candidates, format, ignore, names, others)
    weights = (Weight(c.names[0], own, c.dims, parameter=c.weight) for c, own in chosen)
    return tuple(weights), reasons


def _computed(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Weights of layers that are no parameters, and why they stay dense."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | _ConvNd) and "weight" not in module._parameters:
            yield (
                f"{path}.weight" if path else "weight",
                "it is computed from others: make it permanent with torch.nn.utils.prune.remove or "
                "parametrize.remove_parametrizations",
            )


def _candidates(
    model: nn.Module, named: Sequence[str], trained: bool
) -> Iterator[Candidate[nn.Parameter]]:
    """Weights of layers, each once, and parameters that are named although no layer has them."""
    aliases: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(parameter), []).append(name)
    found: dict[int, tuple[str, nn.Parameter, str]] = {}
    in_graph = _of_graph(model) if isinstance(model, fx.GraphModule) else ()
    for name, parameter, why in chain(_of_modules(model), in_graph):
        found.setdefault(id(parameter), (name, parameter, why))
    for name, parameter in model.named_parameters():
        # A pattern for modules means their layers, not tables of embeddings and the like.
        last = name.rpartition(".")[2]
        if any(p.rpartition(".")[2] == last and matches(name, p) for p in named):
            found.setdefault(id(parameter), (name, parameter, "it is no weight of a layer"))
    for name, parameter, why in found.values():
        names = (name, *(n for n in aliases[id(parameter)] if n != name))
        obstacle = _obstacle(parameter, trained)
        dims = () if obstacle else tuple(parameter.shape)
        yield Candidate(parameter, names, dims, obstacle, "" if obstacle else why)


def _of_modules(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, str]]:
    """Weights of layers, and why they only become sparse if they are named."""
    others = {
        id(parameter)
        for module in model.modules()
        if not isinstance(module, nn.Linear | _ConvNd)
        for parameter in module._parameters.values()
    }
    for path, module in model.named_modules():
        weight = module._parameters.get("weight")
        layer = isinstance(module, nn.Linear | _ConvNd)
        if weight is None or not layer or isinstance(module, _ConvTransposeNd):
            continue
        shared = "another layer uses it too" if id(weight) in others else ""
        unusual = shared or _unusual(weight, getattr(module, "groups", 1))
        yield f"{path}.weight" if path else "weight", weight, unusual


def _of_graph(model: fx.GraphModule) -> Iterator[tuple[str, nn.Parameter, str]]:
    """Parameters that only products of a graph use."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for node in model.graph.find_nodes(op="get_attr"):
        called = [user for user in node.users if user.target in _LINEAR + _CONV]
        weight = parameters.get(node.target)
        if weight is None or not called or any(user.args[1] is not node for user in called):
            continue
        if len(called) == len(node.users):
            groups = {int(user.args[6]) if len(user.args) > 6 else 1 for user in called}
            yield node.target, weight, _unusual(weight, max(groups))


def _unusual(weight: nn.Parameter, groups: int) -> str:
    lazy = isinstance(weight, nn.parameter.UninitializedParameter)
    return "" if lazy else unusual_shape(weight.shape, groups)


def _obstacle(parameter: nn.Parameter, trained: bool) -> str:
    """Why no weight like this can become sparse."""
    if isinstance(parameter, nn.parameter.UninitializedParameter):
        return "it has no shape yet"
    if not parameter.is_floating_point():
        return f"it is of {str(parameter.dtype).removeprefix('torch.')}"
    if parameter.ndim < 2 or not parameter.numel():
        return "it is no matrix"
    if trained and not parameter.requires_grad:
        return "it is frozen"
    return ""
