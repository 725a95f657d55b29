"""A traced module as passes see it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from autoprune.analysis.experiments.experiment import Sample
from autoprune.analysis.guarantees import Spared
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import RuleError, TraceError
from autoprune.frameworks.comparison import HUGE, rounding
from autoprune.frameworks.network import NOTHING, Array, Choice, Delivered, LazyArrays, Values
from autoprune.frameworks.torch import autocast
from autoprune.frameworks.torch.arrays import array_of, single, tensor_of
from autoprune.frameworks.torch.calls import sample_calls
from autoprune.frameworks.torch.causes import does_not_run, is_mismatch, summary, user_line
from autoprune.frameworks.torch.computed import computed_values
from autoprune.frameworks.torch.cut import accepts, cut_graph, owned_tensors, with_tensors, zeroing
from autoprune.frameworks.torch.equality import isolated, outputs_on, probing
from autoprune.frameworks.torch.files import TorchFiles
from autoprune.frameworks.torch.objects import Inputs, input_leaves, map_tensors, plain
from autoprune.frameworks.torch.own_class.following import TorchClass, delivered
from autoprune.frameworks.torch.own_class.planned import checked
from autoprune.frameworks.torch.runner import Change, GraphRunner
from autoprune.frameworks.torch.trace import (
    Traced,
    as_inputs,
    check_outputs,
    copy_of,
    ordered,
    trace,
)
from autoprune.ir.graph import Graph, Node
from autoprune.ir.plan import Plan
from autoprune.ir.positions import Kept
from autoprune.report.progress import say


@dataclass(frozen=True)
class TorchExecutable:
    """A module that computes the values of a graph.

    Attributes:
        model: the module.
        names: by leaf of its outputs, the value there, or None if it does not matter.
        changes: by path, what takes the place of parameters.
    """

    model: nn.Module
    names: tuple[str | None, ...]
    changes: Mapping[str, Change] = field(default_factory=dict)

    def run(
        self, inputs: Any, *, watch: Collection[str] = (), seed: int = 0, precise: bool = False
    ) -> Values:
        given, changes = map_tensors(torch.Tensor.clone, as_inputs(inputs)), self.changes
        plainly: AbstractContextManager[Any] = nullcontext()
        runner: GraphRunner | None = None
        if isinstance(self.model, fx.GraphModule):
            runner = GraphRunner(self.model, changes, watch) if changes or watch else None
            plainly = autocast.switched_off(self.model) if precise else plainly
        try:
            with plainly:
                if runner is None:
                    returned = outputs_on(self._to_run(), given, seed=seed)
                else:
                    with isolated(seed):
                        returned = runner.run(*input_leaves(given))
        except Exception as error:
            raise self._failed(error, as_inputs(inputs), runner) from error
        leaves = pytree.tree_leaves(returned)
        return (runner.seen if runner else {}) | {
            name: array_of(leaf)
            for name, leaf in zip(self.names, leaves, strict=True)
            if name is not None and isinstance(leaf, torch.Tensor)
        }

    def operands(self, inputs: Any, calls: Collection[Node]) -> Mapping[str, Values]:
        assert isinstance(self.model, fx.GraphModule)
        runner = GraphRunner(self.model, self.changes, calls=[node.name for node in calls])
        with isolated(0):
            runner.run(*input_leaves(map_tensors(torch.Tensor.clone, as_inputs(inputs))))
        return runner.operands

    def noise(self, inputs: Any, values: Values) -> float:
        return 0.0

    def _to_run(self) -> nn.Module:
        """The module, or a copy of one that may write to itself."""
        return self.model if isinstance(self.model, fx.GraphModule) else copy_of(self.model).eval()

    def _failed(self, error: Exception, inputs: Inputs, runner: GraphRunner | None) -> TraceError:
        if is_mismatch(error):  # of which the exporter takes no notice
            return does_not_run(error, self.model, inputs)
        where = user_line(error)
        if runner is not None and runner.failed is not None:
            where = runner.failed.name
        return TraceError(
            f"the exported graph does not run: {summary(error)}",
            where=where,
            hint="the forward may depend on values of tensors that the export froze",
        )


def _calls(module: fx.GraphModule) -> list[tuple[Any, ...]]:
    """What a graph calls on what, whatever sizes are written into it."""
    return [
        (n.name, n.op, n.target, *(i.name for i in n.all_input_nodes)) for n in module.graph.nodes
    ]


def _replacing(array: Array) -> Change:
    return lambda old: tensor_of(array, old.device).to(old.dtype)


@dataclass(frozen=True)
class TorchNetwork:
    """See `Network`.

    Attributes:
        traced: the module and its graph.
    """

    traced: Traced

    @property
    def model(self) -> nn.Module:
        return self.traced.model

    @property
    def graph(self) -> Graph:
        return self.traced.graph

    @property
    def inputs(self) -> Inputs:
        return self.traced.inputs

    @cached_property
    def rounding(self) -> float:
        return rounding({v.dtype for node in self.graph.nodes for v in node.outputs})

    @property
    def autocasts(self) -> bool:
        return autocast.is_on(self.traced.module.graph)

    @cached_property
    def own_class(self) -> TorchClass | None:
        # Sizes of a graph module stand in generated code, not in attributes.
        return None if isinstance(self.model, fx.GraphModule) else TorchClass(self.traced)

    @cached_property
    def files(self) -> TorchFiles:
        return TorchFiles(self.traced.inputs, self.traced.dynamic_shapes)

    def probes(self) -> Iterator[Inputs]:
        yield probing(self.inputs)

    @cached_property
    def _tensors(self) -> dict[str, torch.Tensor]:
        return owned_tensors(self.traced)

    def parameter(self, name: str) -> Array:
        return array_of(self._tensors[name])

    def weights(self, computed: Iterable[str] = ()) -> Mapping[str, Array]:
        trained = [p.value.name for p in self.graph.parameters if p.kind == "parameter"]
        names = dict.fromkeys([*trained, *(n for n in computed if n not in self._tensors)])

        def read(name: str) -> Array:
            if name in self._tensors:
                return single(self._tensors[name])
            # A table with a mask in it has numbers that stand for infinity.
            array = single(computed_values(self.traced.module, [name])[name])
            return np.where(np.abs(array) > HUGE, 0, array)

        return LazyArrays(read, names)

    def gradients(self, loss: Callable[[Any], Any], inputs: Any) -> Mapping[str, Array]:
        # The loss is given what the model itself returns.
        module, given = self._graph_for(inputs)
        given = map_tensors(torch.Tensor.clone, given)
        own = {
            p.value.name: self._tensors[p.value.name].detach().requires_grad_()
            for p in self.graph.parameters
            if p.kind == "parameter" and self._tensors[p.value.name].is_floating_point()
        }
        state: dict[str, torch.Tensor] = {n: b.clone() for n, b in module.named_buffers()}
        for parameter in self.graph.parameters:
            if parameter.value.name in own:
                state |= dict.fromkeys(parameter.names, own[parameter.value.name])
        with isolated(0), torch.enable_grad(), autocast.left_as_found(module.graph):
            returned = torch.func.functional_call(module, state, *plain(given))
            if self.traced.outputs is not None:
                returned = self.traced.outputs.restored(returned)
            found = torch.autograd.grad(loss(returned), [*own.values()], allow_unused=True)
        pairs = zip(own, found, strict=True)
        return {name: array_of(gradient) for name, gradient in pairs if gradient is not None}

    def call(self, node: str, operands: Mapping[str, Array]) -> tuple[Array, ...]:
        (n,) = (n for n in self.traced.module.graph.nodes if n.name == node)
        device = next((t.device for t in self._tensors.values()), None)
        env = {leaf: self._operand(leaf, operands, device) for leaf in n.all_input_nodes}
        args, kwargs = fx.map_arg((n.args, n.kwargs), lambda leaf: env[leaf])
        with isolated(0):
            result = n.target(*args, **kwargs)
        leaves = pytree.tree_leaves(result)
        return tuple(array_of(leaf) for leaf in leaves if isinstance(leaf, torch.Tensor))

    def _operand(
        self, n: fx.Node, operands: Mapping[str, Array], device: torch.device | None
    ) -> torch.Tensor:
        if n.op != "get_attr":
            name = n.name if n.name in operands else f"{n.name}'"
            return tensor_of(operands[name], device)
        name = next(p.value.name for p in self.graph.parameters if str(n.target) in p.names)
        return tensor_of(operands[name], device) if name in operands else self._tensors[name]

    def sample_calls(self, names: Collection[str]) -> Mapping[str, Sample | RuleError]:
        return sample_calls(self.traced, names, probing(self.inputs))

    def with_parameters(self, values: Mapping[str, Array]) -> TorchNetwork:
        tensors = {
            self.graph.parameter_of[name].names[0]: _replacing(array)(self._tensors[name])
            for name, array in values.items()
        }
        module = with_tensors(self.traced.module, tensors)
        model = with_tensors(self.model, tensors)
        return TorchNetwork(replace(self.traced, module=module, model=model))

    @cached_property
    def _itself(self) -> TorchExecutable:
        return TorchExecutable(self.traced.module, self.traced.output_names)

    @cached_property
    def _resized(self) -> dict[tuple[Any, ...], fx.GraphModule]:
        """Graphs for inputs of other sizes, by these."""
        return {}

    def _graph_for(self, inputs: Any) -> tuple[fx.GraphModule, Inputs]:
        """The graph to run on these inputs, and the inputs in its order.

        Sizes of the example inputs are written into a graph; for others it is exported anew.
        """
        given = ordered(self.model, as_inputs(inputs))
        leaves = input_leaves(given)
        if accepts(self.traced.module, leaves):
            return self.traced.module, given
        sizes = tuple(tuple(v.shape) if isinstance(v, torch.Tensor) else v for v in leaves)
        if sizes not in self._resized:
            module = trace(self.model, given, dynamic_shapes=self.traced.dynamic_shapes).module
            if _calls(module) != _calls(self.traced.module):
                raise TraceError(
                    "on these inputs the network makes other calls than on the example inputs",
                    hint="give inputs of the sizes of the example inputs",
                )
            self._resized[sizes] = module
        return self._resized[sizes], given

    def run(
        self,
        inputs: Any,
        *,
        overrides: Mapping[str, Array] = NOTHING,
        watch: Collection[str] = (),
        seed: int = 0,
        precise: bool = False,
    ) -> Values:
        changes = {
            path: _replacing(array)
            for name, array in overrides.items()
            for path in self.graph.parameter_of[name].names
        }
        module, given = self._graph_for(inputs)
        runs = replace(self._itself, model=module, changes=changes)
        return runs.run(given, watch=watch, seed=seed, precise=precise)

    def inner(self, inputs: Any, names: Collection[str]) -> Values:
        return self.run(inputs, watch=names)

    def operands(self, inputs: Any, calls: Collection[Node]) -> Mapping[str, Values]:
        module, given = self._graph_for(inputs)
        return replace(self._itself, model=module).operands(given, calls)

    def noise(self, inputs: Any, values: Values) -> float:
        return 0.0

    def without_outputs(self) -> TorchNetwork:
        graph = replace(self.graph, loose=self.graph.outputs)
        return TorchNetwork(replace(self.traced, graph=graph))

    def zeroed(self, typed: TypedGraph, kept: Kept, spared: Spared) -> TorchExecutable:
        return replace(self._itself, changes=zeroing(typed, kept, spared))

    def cut(self, typed: TypedGraph, kept: Kept) -> TorchExecutable:
        return self.executable(cut_graph(self.traced, typed, kept, shared=True))

    def executable(self, model: nn.Module) -> TorchExecutable:
        return TorchExecutable(model, self.traced.output_names)

    def deliver(
        self, cut: TorchExecutable, choice: Choice, folded: tuple[str, ...],
        *, keep_class: bool, keep_config: bool,
    ) -> Delivered:  # fmt: skip
        return delivered(
            self.traced, cut.model, choice, folded, keep_class=keep_class, keep_config=keep_config
        )

    def planned(self, cut: TorchExecutable, plan: Plan) -> nn.Module:
        return checked(self.traced, cut.model, plan)


def trace_network(
    model: nn.Module,
    example_inputs: Any,
    dynamic_shapes: Any = None,
    outputs: tuple[int | str, ...] = (),
) -> TorchNetwork:
    """Trace a module to be pruned; arguments and errors as of `trace`.

    Raises:
        TraceError: if no tensor comes out of it.
    """
    say("tracing the network")
    traced = trace(model, example_inputs, dynamic_shapes=dynamic_shapes, outputs=outputs)
    check_outputs(traced, traced.model)
    return TorchNetwork(traced)
