"""Which weights of a network become sparse, as matrices, and in which format each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from autoprune.passes.patterns import check_patterns, first_match, matches
from autoprune.passes.sparsify.layout import Format
from autoprune.passes.sparsify.specs import (
    FormatSpec,
    check_spec,
    format_for,
    none_found,
    unusual_shape,
)

# What torch.export writes, and what `autoprune.to_torch` does.
_LINEAR = (torch.ops.aten.linear.default, functional.linear)
_CONV = (
    *(getattr(torch.ops.aten, f"conv{dims}d").default for dims in (1, 2, 3)),
    *(getattr(torch, f"conv{dims}d") for dims in (1, 2, 3)),
)


@dataclass(frozen=True)
class Calls:
    """How a layer multiplies by its weights.

    Attributes:
        kind: `linear` or `conv`.
        stride: of a convolution, along each dimension.
        padding: the same; a name as in torch, or numbers.
        dilation: the same.
        groups: of a convolution.
        padding_mode: as in torch.
        place: the modules that are called, or the names of the calls in a graph.
    """

    kind: str
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] | str = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    padding_mode: str = "zeros"
    place: tuple[nn.Module, ...] | tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Weight:
    """A parameter that becomes sparse.

    Attributes:
        name: of the parameter.
        parameter: the parameter, of shape [outputs, inputs, *kernel].
        format: as a matrix [outputs, kernel * inputs].
        calls: how it is used; None if that is not known.
    """

    name: str
    parameter: nn.Parameter
    format: Format
    calls: Calls | None

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs of the matrix."""
        outputs = len(self.parameter)
        return outputs, self.parameter.numel() // outputs

    def matrix(self, tensor: Tensor) -> Tensor:
        """A tensor of the parameter's shape as a matrix.

        Inputs run fastest, so that a pattern along them is one of inputs at the same tap.
        """
        return tensor.movedim(1, -1).reshape(self.shape)

    def tensor(self, matrix: Tensor) -> Tensor:
        """A matrix as a tensor of the parameter's shape."""
        outputs, inputs, *kernel = self.parameter.shape
        return matrix.reshape(outputs, *kernel, inputs).movedim(-1, 1).contiguous()


@dataclass(frozen=True)
class Found:
    """What becomes sparse.

    Attributes:
        weights: in the order of the network's modules.
        reasons: why the other weights of layers stay dense, by name.
    """

    weights: tuple[Weight, ...]
    reasons: Mapping[str, str]


def find_weights(
    model: nn.Module, format: FormatSpec, ignore: str | Sequence[str], *, trained: bool = False
) -> Found:
    """The weights of a network that become sparse.

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
    patterns = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    named = format if isinstance(format, Mapping) else {}
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    check_patterns(patterns, names, "ignore")
    check_patterns(named, names, "format")
    check_spec(format)
    weights: list[Weight] = []
    reasons: dict[str, str] = {}
    aliases: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(parameter), []).append(name)
    for name, parameter, calls in _candidates(model, tuple(named)):
        own = aliases[id(parameter)]
        ignored, named_by = first_match(patterns, own), first_match(named, own)
        wanted = None if named_by is None else named[named_by]
        if isinstance(format, Mapping) and wanted is None:
            continue
        if ignored is not None:
            reasons[name] = f"ignore={ignored!r}"
            continue
        obstacle = _obstacle(parameter, trained)
        if not obstacle and wanted is None:
            obstacle = _unusual(model, name, parameter, calls)
        chosen = None
        if not obstacle:
            kind = "linear" if calls is None else calls.kind
            spec = format if wanted is None else wanted
            assert not isinstance(spec, Mapping)
            chosen, obstacle = format_for(spec, parameter.shape, kind)
        if chosen is None:
            reasons[name] = obstacle
        else:
            weights.append(Weight(name, parameter, chosen, calls))
    if not named:
        reasons.update(_computed(model))
    if not weights:
        raise none_found(format, reasons)
    return Found(tuple(weights), reasons)


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
    model: nn.Module, named: Sequence[str]
) -> Iterator[tuple[str, nn.Parameter, Calls | None]]:
    """Weights of layers, each once, and parameters that are named although nothing calls them."""
    found: dict[int, tuple[str, nn.Parameter, Calls]] = {}
    for name, parameter, calls in _of_modules(model):
        first, _, before = found.setdefault(id(parameter), (name, parameter, calls))
        if before is not calls:
            # Layers that share it but are called otherwise do not see the same inputs.
            alike = replace(before, place=calls.place) == calls
            both = (*before.place, *calls.place) if alike and before.place else ()
            found[id(parameter)] = (first, parameter, replace(before, place=both))
    if isinstance(model, fx.GraphModule):
        for name, parameter, calls in _of_graph(model):
            found.setdefault(id(parameter), (name, parameter, calls))
    yield from found.values()
    for name, parameter in model.named_parameters():
        # A pattern for modules means their layers, not tables of embeddings and the like.
        last = name.rpartition(".")[2]
        meant = any(p.rpartition(".")[2] == last and matches(name, p) for p in named)
        if meant and id(parameter) not in found:
            yield name, parameter, None


def _of_modules(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, Calls]]:
    for path, module in model.named_modules():
        weight = module._parameters.get("weight")
        name = f"{path}.weight" if path else "weight"
        if weight is None:
            continue
        if isinstance(module, nn.Linear):
            yield name, weight, Calls("linear", place=(module,))
        elif isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
            padding = module.padding if isinstance(module.padding, str) else tuple(module.padding)
            yield (
                name,
                weight,
                Calls(
                    "conv",
                    tuple(module.stride),
                    padding,
                    tuple(module.dilation),
                    module.groups,
                    module.padding_mode,
                    (module,),
                ),
            )


def _of_graph(model: fx.GraphModule) -> Iterator[tuple[str, nn.Parameter, Calls]]:
    """Parameters that only products of a graph use."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for node in model.graph.find_nodes(op="get_attr"):
        users = list(node.users)
        called = [user for user in users if user.target in _LINEAR + _CONV]
        weight = parameters.get(node.target)
        if weight is None or not called or any(user.args[1] is not node for user in called):
            continue
        if len(called) < len(users):
            continue
        names = tuple(user.name for user in called)
        if called[0].target in _LINEAR:
            yield node.target, weight, Calls("linear", place=names)
        else:
            settings = {_conv_settings(user, weight.ndim - 2) for user in called}
            if len(settings) == 1:
                yield node.target, weight, Calls("conv", *settings.pop(), place=names)


def _conv_settings(
    node: fx.Node, dims: int
) -> tuple[tuple[int, ...], tuple[int, ...] | str, tuple[int, ...], int]:
    """Stride, padding, dilation and groups."""
    defaults: list[Any] = [(1,), (0,), (1,), 1]
    given: list[Any] = list(node.args[3:])
    stride, padding, dilation, groups = given + defaults[len(given) :]

    def each(sizes: Any) -> tuple[int, ...]:
        along: tuple[int, ...] = (sizes,) if isinstance(sizes, int) else tuple(sizes)
        return along * (dims if len(along) == 1 else 1)

    return (
        each(stride),
        padding if isinstance(padding, str) else each(padding),
        each(dilation),
        int(groups),
    )


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


def _unusual(model: nn.Module, name: str, parameter: nn.Parameter, calls: Calls | None) -> str:
    """Why a weight becomes sparse only if its name is given."""
    if calls is None:
        return "it is no weight of a layer"
    owners = [
        module
        for module in model.modules()
        if any(own is parameter for own in module._parameters.values())
    ]
    layers = (nn.Linear, _ConvNd)
    of_graph = any(isinstance(place, str) for place in calls.place)
    if not of_graph and not all(isinstance(module, layers) for module in owners):
        return "another layer uses it too"
    return unusual_shape(parameter.shape, calls.groups)
