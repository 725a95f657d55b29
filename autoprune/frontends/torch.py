"""torch.nn.Module -> Graph, through torch.export."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import operator
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from autoprune.errors import TraceError
from autoprune.ir.graph import Argument, Graph, Node, Parameter, Value, verify
from autoprune.ops.rule import writes_in_place

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Traced:
    """A model as a graph, with the fx module it was read from.

    Attributes:
        graph: the framework-free graph; node names are those of the fx nodes.
        module: the exported model as a GraphModule in evaluation mode.
        inputs: the example inputs, as positional and keyword arguments.
        dynamic_shapes: what was passed to torch.export.
    """

    graph: Graph
    module: fx.GraphModule
    inputs: Inputs
    dynamic_shapes: Any


def as_inputs(example_inputs: Any) -> Inputs:
    """Normalise `example_inputs` to positional and keyword arguments.

    A tuple or list holds positional arguments, a mapping keyword arguments, anything else is the
    only argument.
    """
    if isinstance(example_inputs, tuple | list):
        return tuple(example_inputs), {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    return (example_inputs,), {}


def trace(model: nn.Module, example_inputs: Any, *, dynamic_shapes: Any = None) -> Traced:
    """Export a model in evaluation mode and read it into a graph.

    Args:
        model: any module; it is not changed (a copy is traced).
        example_inputs: a tensor, a tuple of positional arguments or a dict of keyword arguments.
        dynamic_shapes: None, `"batch"` (the first dimension of every tensor may vary), or what
            `torch.export.export` takes.

    Raises:
        TraceError: if `model` is no module, does not run on the inputs, or cannot be exported.
    """
    if not isinstance(model, nn.Module):
        raise TraceError(
            f"a torch.nn.Module is needed, got {type(model).__name__}",
            hint="pass the model itself, not its class or its state_dict",
        )
    args, kwargs = as_inputs(example_inputs)
    work = _copy(model).eval()
    if isinstance(dynamic_shapes, str):
        dynamic_shapes = _dynamic_batch(work, args, kwargs, dynamic_shapes)
    exported = _export(work, args, kwargs, dynamic_shapes)
    module = exported.module(check_guards=False)
    if not isinstance(module, fx.GraphModule):
        raise TraceError("torch.export returned no graph")
    _inline_grad_regions(module)
    buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    graph = _Reader(module, _concrete_values(module, args, kwargs), buffers).read()
    verify(graph)
    return Traced(graph, module, (args, kwargs), dynamic_shapes)


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise TraceError(
            f"the model cannot be copied: {error}",
            where=type(model).__name__,
            hint="autoprune works on a copy; make the model deep-copyable (copy.deepcopy)",
        ) from error


def _dynamic_batch(model: nn.Module, args: Any, kwargs: Any, what: str) -> Any:
    """`"batch"` as torch.export wants it: dimension 0 of every tensor input is dynamic."""
    if what != "batch":
        raise TraceError(
            f"dynamic_shapes={what!r} is not known",
            hint='pass "batch", or the structure torch.export.export takes',
        )

    def dynamic(leaf: Any) -> Any:
        has_batch = isinstance(leaf, torch.Tensor) and leaf.ndim > 0
        return {0: torch.export.Dim.DYNAMIC} if has_batch else None

    bound = inspect.signature(model.forward).bind(*args, **kwargs)
    return {name: pytree.tree_map(dynamic, value) for name, value in bound.arguments.items()}


def _export(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any
) -> torch.export.ExportedProgram:
    def attempt() -> torch.export.ExportedProgram:
        return torch.export.export(model, args, kwargs, dynamic_shapes=dynamic_shapes, strict=False)

    try:
        return attempt()
    except Exception as error:
        try:
            with torch.no_grad():
                outputs = copy.deepcopy(model)(*args, **kwargs)
        except Exception as running:
            raise TraceError(
                f"the model does not run on the example inputs: {_first_line(running)}",
                where=_user_frame(running),
                hint="call model(...) with these inputs until it works; a tuple holds positional "
                "and a dict keyword arguments",
            ) from running
        if _register_dataclasses(outputs):
            return _export(model, args, kwargs, dynamic_shapes)
        raise TraceError(
            f"the model runs but cannot be exported: {_first_line(error)}",
            where=_user_frame(error),
            hint="torch.export must be able to trace the forward: no branch may depend on the "
            "values of tensors",
        ) from error


def _register_dataclasses(outputs: Any) -> bool:
    """Make dataclasses among the outputs known to torch.export; True if any was not."""
    registered = False

    def visit(leaf: Any) -> None:
        nonlocal registered
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            torch.export.register_dataclass(type(leaf))
            registered = True

    pytree.tree_map(visit, outputs)
    return registered


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return f"{type(error).__name__}: {text.splitlines()[0]}"


def _user_frame(error: BaseException) -> str | None:
    """The innermost frame of the error that is neither torch's nor ours."""
    ours, theirs = Path(__file__).parents[1], Path(torch.__file__).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if not path.is_relative_to(ours) and not path.is_relative_to(theirs):
            return f"{frame.filename}:{frame.lineno}: {frame.line}"
    return None


def _inline_grad_regions(module: fx.GraphModule) -> None:
    """Replace `with torch.no_grad()` regions by their body, with detached outputs."""
    graph = module.graph
    for node in list(graph.nodes):
        if node.target is not torch.ops.higher_order.wrap_with_set_grad_enabled:
            continue
        enabled, body, *arguments = node.args
        region = module.get_submodule(str(body.target))
        assert isinstance(region, fx.GraphModule)
        inner = [n for n in region.graph.nodes if n.op == "placeholder"]
        with graph.inserting_before(node):
            results: Any = graph.graph_copy(region.graph, dict(zip(inner, arguments, strict=True)))
            if not enabled:
                results = pytree.tree_map(lambda n: _detached(graph, n), results)
        for user in list(node.users):
            user.replace_all_uses_with(results[user.args[1]])
            graph.erase_node(user)
        graph.erase_node(node)
        if not body.users:
            graph.erase_node(body)
    graph.eliminate_dead_code()
    module.recompile()


def _detached(graph: fx.Graph, node: fx.Node) -> fx.Node:
    detached = graph.call_function(torch.ops.aten.detach.default, (node,))
    detached.meta = dict(node.meta)
    return detached


class _Recorder(fx.Interpreter):
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


def _concrete_values(
    module: fx.GraphModule, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[fx.Node, Any]:
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
        recorder.run(*pytree.tree_leaves((args, kwargs)))
    return recorder.values


class _Reader:
    """Reads one GraphModule; fx names become value and node names."""

    def __init__(
        self, module: fx.GraphModule, values: Mapping[fx.Node, Any], buffers: set[str]
    ) -> None:
        self.module = module
        self.values = values
        self.buffers = buffers
        self.env: dict[fx.Node, Value | tuple[Value, ...]] = {}
        self.owned: dict[int, tuple[Value, list[str], str]] = {}
        self.paths = {str(n.target) for n in module.graph.nodes if n.op == "get_attr"}

    def read(self) -> Graph:
        inputs: list[Value] = []
        nodes: list[Node] = []
        outputs: tuple[Value, ...] = ()
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
                outputs = tuple(dict.fromkeys(v for a in n.args for v in self._values(a)))
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
        return Graph(tuple(inputs), parameters, tuple(nodes), outputs, mutated)

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
        owner, _, leaf = path.rpartition(".")
        tensor = getattr(self.module.get_submodule(owner), leaf)
        if not isinstance(tensor, torch.Tensor):
            return
        known = self.owned.get(id(tensor))
        if known is None:
            value = self._edge(path, tensor)
            assert value is not None
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
        self.env[n] = container[index]

    def _call(self, n: fx.Node) -> Node:
        result = self.values[n]
        outputs: tuple[Value, ...]
        if isinstance(result, list | tuple):
            names = {u.args[1]: u.name for u in n.users if u.target is operator.getitem}
            found = [
                self._value(names.get(i, f"{n.name}.{i}"), part) for i, part in enumerate(result)
            ]
            outputs = tuple(v for v in found if v is not None)
            if len(outputs) == len(found):
                self.env[n] = outputs
        else:
            value = self._value(n.name, result)
            outputs = () if value is None else (value,)
            if value is not None:
                self.env[n] = value
        stack = n.meta.get("nn_module_stack") or {}
        modules = tuple(path.split("@")[0] for path, _ in stack.values() if "_empty" not in path)
        return Node(
            n.name, _operator_name(n.target), self._arguments(n), outputs, modules, _source(n)
        )

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


def _source(n: fx.Node) -> str:
    """The innermost line of the stack trace that is not torch's own."""
    trace = n.meta.get("stack_trace") or ""
    frames = trace.split('File "')[1:]
    for frame in reversed(frames):
        location, _, text = frame.partition("\n")
        path, _, rest = location.partition('", line ')
        if "/torch/" not in path:
            return f"{path}:{rest.split(',')[0]}: {text.strip().splitlines()[0]}" if text else path
    return ""
