"""An exported GraphModule -> Graph."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from autoprune.errors import TraceError
from autoprune.frameworks.origin import user_line
from autoprune.frameworks.torch import autocast
from autoprune.frameworks.torch.arrays import get_attribute
from autoprune.frameworks.torch.autocast import Interpreter
from autoprune.ir.graph import Argument, Graph, Node, Parameter, Value
from autoprune.ops.rule import writes_in_place


def read(
    module: fx.GraphModule,
    inputs: Sequence[Any],
    buffers: set[str],
    required: frozenset[int] | None = None,
) -> Graph:
    """Read the graph of `torch.export.ExportedProgram.module()`.

    Args:
        module: the exported module.
        inputs: the example inputs, flattened.
        buffers: names of the model's buffers; other tensors that are no parameters were written
            into the code.
        required: positions among the flattened outputs of those that matter; None for all.
    """
    return _Reader(module, _concrete_values(module, inputs), buffers, required).read()


def simplify(module: fx.GraphModule) -> None:
    """Put regions in line that compute the same there, and drop what no output needs.

    Such are `with torch.no_grad()`, whose results are detached, and `with torch.autocast`, which
    calls of their own enter and leave. What layers compute of which nothing else is read stays: the
    model's own forward runs them, so that they have to shrink with what they are given.
    """
    _inline_regions(module)
    if autocast.has_regions(module.graph):
        # The exporter is wrong about types of numbers that operators only find out inside.
        for node in module.graph.find_nodes(
            op="call_function", target=torch.ops.aten._assert_tensor_metadata.default
        ):
            module.graph.erase_node(node)
    # Tensors nobody reads stay: they may be further names of one that is read.
    kept = _of_unread_layers(module)
    module.graph.eliminate_dead_code(
        is_impure_node=lambda n: n.op == "get_attr" or n in kept or _enters_vmap(n) or n.is_impure()
    )
    module.recompile()


def _of_unread_layers(module: fx.GraphModule) -> set[fx.Node]:
    """What is computed from trained parameters that no output depends on."""
    read = ancestors(module.graph.find_nodes(op="output"))
    parameters = dict(module.named_parameters(remove_duplicate=False))
    unread: set[fx.Node] = set()
    for n in module.graph.nodes:
        is_unread = n.op == "get_attr" and n not in read and n.target in parameters
        if is_unread or not unread.isdisjoint(n.all_input_nodes):
            unread.add(n)
    return unread


def ancestors(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """The nodes, and all that they are computed from."""
    pending, found = list(nodes), set[fx.Node]()
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending.extend(node.all_input_nodes)
    return found


def _enters_vmap(n: fx.Node) -> bool:
    """Calls without results between which tensors lack the axis that is mapped over."""
    return getattr(n.target, "__name__", "").endswith("crement_nesting")


def _inline_regions(module: fx.GraphModule) -> None:
    graph = module.graph
    for node in list(graph.nodes):
        around: AbstractContextManager[None] = nullcontext()
        detaches = False
        if node.target is torch.ops.higher_order.wrap_with_set_grad_enabled:
            enabled, body, *arguments = node.args
            detaches = not enabled
        elif node.target is torch.ops.higher_order.wrap_with_autocast:
            around, (body, *arguments) = autocast.region(graph, node.args[:4]), node.args[4:]
        else:
            continue
        region = module.get_submodule(str(body.target))
        assert isinstance(region, fx.GraphModule)
        _inline_regions(region)
        with graph.inserting_before(node):
            with around:
                results = _copied(region, str(body.target), graph, arguments)
            if detaches:
                results = pytree.tree_map(lambda n: _detached(graph, n), results)
        for user in list(node.users):
            user.replace_all_uses_with(results[user.args[1]])
            graph.erase_node(user)
        graph.erase_node(node)
        if not body.users:
            graph.erase_node(body)


def _copied(region: fx.GraphModule, path: str, graph: fx.Graph, arguments: Sequence[Any]) -> Any:
    """The outputs of a region's nodes copied into `graph`; the region is at `path` there."""
    placeholders = (n for n in region.graph.nodes if n.op == "placeholder")
    copies: dict[fx.Node, Any] = dict(zip(placeholders, arguments, strict=True))
    for node in region.graph.nodes:
        if node.op == "output":
            return fx.map_arg(node.args[0], lambda n: copies[n])
        if node.op != "placeholder":
            copies[node] = graph.node_copy(node, lambda n: copies[n])
            if node.op == "get_attr":
                copies[node].target = f"{path}.{node.target}"
    raise AssertionError("a region without outputs")


def _detached(graph: fx.Graph, node: fx.Node) -> fx.Node:
    detached = graph.call_function(torch.ops.aten.detach.default, (node,))
    detached.meta = dict(node.meta)
    return detached


class _Recorder(Interpreter):
    """Runs a graph and keeps the sizes of everything it computes."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.values[n] = pytree.tree_map(
            lambda v: v.to("meta") if isinstance(v, torch.Tensor) else v, result
        )
        return result


def _concrete_values(module: fx.GraphModule, inputs: Sequence[Any]) -> dict[fx.Node, Any]:
    """What each node yields; with dynamic shapes, by running the example inputs."""
    values = {n: n.meta.get("val") for n in module.graph.nodes}
    symbolic = any(
        isinstance(leaf, torch.SymInt)
        or (isinstance(leaf, torch.Tensor) and not all(type(d) is int for d in leaf.shape))
        for value in values.values()
        for leaf in pytree.tree_leaves(value)
    )
    if not symbolic:
        return values
    recorder = _Recorder(module)
    with torch.no_grad():
        recorder.run(*inputs)
    return recorder.values


_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_FEW = 2**16


def _integer_in(tensor: torch.Tensor) -> int | None:
    """The integer that is everywhere in a tensor, if it is one."""
    if tensor.dtype not in _INTEGERS or tensor.is_meta or not 0 < tensor.numel() <= _FEW:
        return None
    first = tensor.flatten()[0]
    return int(first) if bool((tensor == first).all()) else None


Results: TypeAlias = "Value | tuple[Results, ...] | None"
"""What a node yields: a value, or several in tuples; nothing where that is no tensor or number."""


class _Reader:
    """Reads one GraphModule; fx names become value and node names."""

    def __init__(
        self,
        module: fx.GraphModule,
        values: Mapping[fx.Node, Any],
        buffers: set[str],
        required: frozenset[int] | None,
    ) -> None:
        self.module = module
        self.values = values
        self.buffers = buffers
        self.required = required
        self.env: dict[fx.Node, Results] = {}
        self.owned: dict[int, tuple[Value, list[str], str]] = {}
        self.paths = {str(n.target) for n in module.graph.nodes if n.op == "get_attr"}

    def read(self) -> Graph:
        inputs: list[Value] = []
        nodes: list[Node] = []
        outputs: tuple[Value, ...] = ()
        loose: tuple[Value, ...] = ()
        for n in self.module.graph.nodes:
            if n.op == "placeholder":
                value = self._value(n.name, self.values[n])
                if value is not None:
                    inputs.append(value)
                    self.env[n] = value
            elif n.op == "get_attr":
                self._attribute(n)
            elif n.op == "call_function" and n.target is operator.getitem:
                self._getitem(n)
            elif n.op == "call_function":
                nodes.append(self._call(n))
            elif n.op == "output":
                outputs = tuple(dict.fromkeys(self._values(n.args)))
                loose = self._loose(n, outputs)
            else:
                raise TraceError(f"an exported graph holds no {n.op} nodes", where=str(n))
        parameters = tuple(
            Parameter(value, tuple(names), kind)  # type: ignore[arg-type]
            for value, names, kind in self.owned.values()
        )
        owned = {value.name for value, _, _ in self.owned.values()}
        mutated = tuple(
            v
            for node in nodes
            if writes_in_place(node.op)
            for v in node.inputs[:1]
            if v.name in owned
        )
        return Graph(tuple(inputs), parameters, tuple(nodes), outputs, mutated, loose)

    def _loose(self, n: fx.Node, outputs: Sequence[Value]) -> tuple[Value, ...]:
        """The outputs that are at none of the positions that matter."""
        if self.required is None:
            return ()
        leaves = pytree.tree_leaves(n.args)
        required = self._values([leaf for i, leaf in enumerate(leaves) if i in self.required])
        return tuple(v for v in outputs if v not in required)

    def _value(self, name: str, concrete: Any) -> Value | None:
        """The value of an fx node; parameters have the first right to a name."""
        return self._edge(f"{name}'" if name in self.paths else name, concrete)

    def _edge(self, name: str, concrete: Any) -> Value | None:
        if isinstance(concrete, torch.Tensor):
            dtype = str(concrete.dtype).removeprefix("torch.")
            return Value(name, tuple(int(d) for d in concrete.shape), dtype)
        if isinstance(concrete, int | float | torch.SymInt | torch.SymFloat | torch.SymBool):
            hint = int(concrete) if type(concrete) is int else None
            return Value(name, (), "int", hint)
        return None

    def _attribute(self, n: fx.Node) -> None:
        path = str(n.target)
        tensor = get_attribute(self.module, path)
        if not isinstance(tensor, torch.Tensor):
            return
        known = self.owned.get(id(tensor))
        if known is None:
            value = self._edge(path, tensor)
            assert value is not None
            value = replace(value, hint=_integer_in(tensor))
            kind = "constant"
            if isinstance(tensor, nn.Parameter):
                kind = "parameter"
            elif path in self.buffers:
                kind = "buffer"
            known = self.owned[id(tensor)] = (value, [], kind)
        known[1].append(path)
        self.env[n] = known[0]

    def _getitem(self, n: fx.Node) -> None:
        source, index = n.args
        container = self.env[source]  # type: ignore[index]
        assert isinstance(container, tuple)
        assert isinstance(index, int)
        part = container[index]
        if part is not None:
            self.env[n] = part

    def _results(self, name: str, concrete: Any, n: fx.Node | None) -> Results:
        """The values of what a node yields, nested alike; parts that are read have their names."""
        if not isinstance(concrete, list | tuple):
            return self._value(n.name if n else name, concrete)
        users = () if n is None else n.users
        read = {u.args[1]: u for u in users if u.target is operator.getitem}
        return tuple(
            self._results(f"{name}.{i}", part, read.get(i)) for i, part in enumerate(concrete)
        )

    def _call(self, n: fx.Node) -> Node:
        found = self._results(n.name, self.values[n], n)
        outputs = tuple(v for v in pytree.tree_leaves(found) if v is not None)
        if found is not None:
            self.env[n] = found
        stack = n.meta.get("nn_module_stack") or {}
        modules = tuple(path.split("@")[0] for path, _ in stack.values() if "_empty" not in path)
        source = user_line(n.meta.get("stack_trace") or "")
        return Node(n.name, _operator_name(n.target), self._arguments(n), outputs, modules, source)

    def _arguments(self, n: fx.Node) -> dict[str, Argument]:
        normal = n.normalized_arguments(self.module, normalize_to_only_use_kwargs=True)
        if normal is None:
            named = {f"a{i}": a for i, a in enumerate(n.args)} | dict(n.kwargs)
        else:
            named = normal.kwargs
        return {name: self._argument(a) for name, a in named.items()}

    def _argument(self, a: Any) -> Argument:
        if isinstance(a, fx.Node):
            return self.env.get(a)
        if isinstance(a, list | tuple):
            return tuple(self._argument(part) for part in a)
        if a is None or isinstance(a, bool | int | float | str):
            return a
        return str(a).removeprefix("torch.")

    def _values(self, a: Any) -> list[Value]:
        found = [self.env.get(leaf) for leaf in pytree.tree_leaves(a) if isinstance(leaf, fx.Node)]
        return [v for v in found if isinstance(v, Value)]


def _operator_name(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    module = getattr(target, "__module__", "") or ""
    return f"{module.lstrip('_') or 'python'}.{getattr(target, '__name__', str(target))}"
