"""Packed sequences under torch.export, which does not know the operators around them.

How many rows a packed tensor has depends on the lengths, which are data. While a model is traced,
operators of the same signatures, which say so, take the place of torch's own; the exported program
has those again.

    _pack_padded_sequence  [time, batch, features] -> [rows, features], [time]
    lstm, gru, rnn         [rows, features]        -> [rows, outputs], states
    _pad_packed_sequence   [rows, features]        -> [time, batch, features], [batch]
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from autoprune.frameworks.torch import autocast
from autoprune.frameworks.torch.quiet import quiet_torch

_NAMESPACE = "autoprune_trace"
_LIBRARY = torch.library.Library(_NAMESPACE, "DEF")
_OWN = {
    "_pack_padded_sequence": torch.ops.aten._pack_padded_sequence.default,
    "_pad_packed_sequence": torch.ops.aten._pad_packed_sequence.default,
    "lstm": torch.ops.aten.lstm.data,
    "gru": torch.ops.aten.gru.data,
    "rnn_tanh": torch.ops.aten.rnn_tanh.data,
    "rnn_relu": torch.ops.aten.rnn_relu.data,
}
"""By name, the operator of torch that one of ours stands in for."""


def _new_size() -> Any:
    return torch.library.get_ctx().new_dynamic_size(min=1)


def _pack(input: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    rows = input.new_empty(_new_size(), *input.shape[2:])
    return rows, torch.empty(_new_size(), dtype=torch.int64)


def _pad(
    data: Tensor, batch_sizes: Tensor, batch_first: bool, padding_value: float, total_length: int
) -> tuple[Tensor, Tensor]:
    batch = _new_size()
    is_given = not isinstance(total_length, int) or total_length > 0
    time = total_length if is_given else batch_sizes.shape[0]
    leading = (batch, time) if batch_first else (time, batch)
    return data.new_empty(*leading, *data.shape[1:]), torch.empty(batch, dtype=torch.int64)


def _recurrent(
    data: Tensor,
    batch_sizes: Tensor,
    hx: Tensor | Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> tuple[Tensor, ...]:
    states = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    width = states[0].shape[-1] * (2 if bidirectional else 1)
    return data.new_empty(data.shape[0], width), *(torch.empty_like(state) for state in states)


def _define() -> dict[str, Any]:
    fakes: dict[str, Callable[..., Any]] = {
        "_pack_padded_sequence": _pack,
        "_pad_packed_sequence": _pad,
    }
    for name, own in _OWN.items():
        signature = str(own._schema).partition("(")[2].replace("int total", "SymInt total")
        _LIBRARY.define(f"{name}({signature}")
        torch.library.impl(_LIBRARY, name, "CompositeExplicitAutograd")(own)
        torch.library.register_fake(f"{_NAMESPACE}::{name}", fakes.get(name, _recurrent))
    namespace = getattr(torch.ops, _NAMESPACE)
    return {name: getattr(namespace, name).default for name in _OWN}


_STAND_INS = _define()


def export(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any
) -> torch.export.ExportedProgram:
    """`torch.export.export` of a model that may pack sequences; not strict."""
    if dynamic_shapes is not None:
        # Tensors remember that they were dynamic once.
        args, kwargs = pytree.tree_map_only(Tensor, Tensor.detach, (args, kwargs))
    if isinstance(model, fx.GraphModule):
        stand_ins = {own: _STAND_INS[name] for name, own in _OWN.items()}
        model = copy.deepcopy(model)
        _replace(model, stand_ins | autocast.calls_to_export(model.graph))
    with _PackedSequences(), quiet_torch():
        program = torch.export.export(
            model, args, kwargs, dynamic_shapes=dynamic_shapes, strict=False
        )
    _replace(program.graph_module, {_STAND_INS[name]: own for name, own in _OWN.items()})
    return program


def _replace(module: fx.GraphModule, targets: Mapping[Any, Any]) -> None:
    replaced = [node for node in module.graph.nodes if node.target in targets]
    for node in replaced:
        node.target = targets[node.target]
    if replaced:
        module.recompile()


class _PackedSequences(TorchFunctionMode):
    """While it is entered, what packs, reads and pads packed sequences can be exported."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[Tensor, int]] = []
        """Numbers of rows at each time step, of each packing, with the size of its batch."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name == "__getitem__" and isinstance(args[1], int) and args[1] == 0:
            batch = self._batch_of(args[0])
            return func(*args, **kwargs) if batch is None else batch
        if name not in _STAND_INS or not self._is_packed(name, args):
            return func(*args, **kwargs)
        packed = _STAND_INS[name](*args, **kwargs)
        if name == "_pack_padded_sequence":
            input, _, batch_first = args
            time, batch = input.shape[:2][:: -1 if batch_first else 1]
            torch._check(packed[1].shape[0] <= time)
            self.batches.append((packed[1], batch))
        elif name == "_pad_packed_sequence":
            batch = self._batch_of(args[1])
            if batch is not None:
                torch._check(packed[1].shape[0] == batch)
        return packed

    def _is_packed(self, name: str, args: Sequence[Any]) -> bool:
        """The recurrent functions of tensors have initial states in second place."""
        return name.startswith("_") or self._batch_of(args[1]) is not None

    def _batch_of(self, sizes: Any) -> int | None:
        return next((batch for known, batch in self.batches if known is sizes), None)
