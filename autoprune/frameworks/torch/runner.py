"""Running an exported graph call by call: on other tensors, with a look at what it computes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch._C._functorch import is_functorch_wrapped_tensor

from autoprune.frameworks.network import NOTHING, Values
from autoprune.frameworks.torch.arrays import array_of
from autoprune.frameworks.torch.autocast import Interpreter

Change = Callable[[torch.Tensor], torch.Tensor]
"""From a tensor of the graph to what takes its place."""

SCALED = "scaled"
"""Note of a node whose value is that of another one, which multiplies it."""


class GraphRunner(Interpreter):
    """Runs a graph; its buffers, which calls may write to, are copies.

    Tensors that are changed are made where a call reads them, and let go of after it.

    Args:
        module: the exported graph.
        changes: by path of a parameter or buffer, what takes its place.
        watch: names of the values to keep in `seen`, as they are when they are made.
        calls: names of the calls whose operands to keep in `operands`, as they are read.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        changes: Mapping[str, Change] = NOTHING,
        watch: Collection[str] = (),
        calls: Collection[str] = (),
    ) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.changes = changes
        self.watch = frozenset(watch)
        self.calls = frozenset(calls)
        self.operands: dict[str, Values] = {}
        self.paths = {str(n.target) for n in module.graph.nodes if n.op == "get_attr"}
        self.seen: Values = {}
        self.failed: fx.Node | None = None

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_attr(target, args, kwargs)
        is_buffer = isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter)
        return value.clone() if is_buffer else value

    def map_nodes_to_values(self, args: Any, n: fx.Node) -> Any:
        return fx.map_arg(args, self._value)

    def _value(self, n: fx.Node) -> Any:
        value = self.env[n]
        change = self.changes.get(str(n.target)) if n.op == "get_attr" else None
        return value if change is None else change(value)

    def run_node(self, n: fx.Node) -> Any:
        if n.name in self.calls:
            read = [(a, self.env[a]) for a in n.all_input_nodes if a.op != "get_attr"]
            named = (pair for source, value in read for pair in _named(source, value, self.paths))
            self.operands[n.name] = {name: array_of(tensor.clone()) for name, tensor in named}
        try:
            result = super().run_node(n)
        except Exception:
            self.failed = n
            raise
        if self.watch and n.op != "output":
            for name, tensor in _named(n, result, self.paths):
                if name in self.watch:
                    self.seen[name] = array_of(tensor.clone())
        return result


def _named(n: fx.Node, result: Any, paths: Collection[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in what a node yields, under their names in the framework-free graph."""
    if n.meta.get(SCALED):
        return
    name = str(n.target) if n.op == "get_attr" else n.meta.get("value", n.name)
    if n.op != "get_attr" and name in paths:
        name += "'"
    yield from _parts(name, result)


def _parts(name: str, result: Any) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(result, torch.Tensor):
        if not is_functorch_wrapped_tensor(result):  # of one sample, inside of torch.vmap
            yield name, result
    elif isinstance(result, list | tuple):
        for i, part in enumerate(result):
            yield from _parts(f"{name}.{i}", part)
