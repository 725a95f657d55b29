"""An ONNX model as passes see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from autoprune.analysis.experiments.experiment import Sample
from autoprune.analysis.guarantees import Spared
from autoprune.analysis.planning import make_plan
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import AutopruneError, RuleError
from autoprune.frameworks.comparison import difference
from autoprune.frameworks.network import NOTHING, Array, Choice, Delivered, LazyArrays, Values
from autoprune.frameworks.onnx.calls import run_alone, sample_calls
from autoprune.frameworks.onnx.carried import carried_plan, carry, was_changed
from autoprune.frameworks.onnx.cut import cut_model
from autoprune.frameworks.onnx.feeds import candidate_feeds, probing
from autoprune.frameworks.onnx.file import session_for, write_onnx
from autoprune.frameworks.onnx.run import reader
from autoprune.frameworks.onnx.sessions import Feed, run
from autoprune.frameworks.onnx.tensors import read_tensor, weight, with_tensors, zeroed_model
from autoprune.frameworks.onnx.timing import Timed
from autoprune.frameworks.onnx.trace import TracedOnnx
from autoprune.ir.graph import Graph, Node
from autoprune.ir.plan import Plan
from autoprune.ir.positions import Kept

CHANGED = (
    "The model was pruned before, and its nodes were changed afterwards: the plan starts from the "
    "model as it was given, and is none for the original."
)


@dataclass(frozen=True)
class OnnxExecutable:
    """A model that computes the values of a graph, in ONNX Runtime.

    Attributes:
        model: the model.
        names: its outputs that matter.
        optimize: whether ONNX Runtime may sum in another order.
        changed: makes what is run, with other tensors, of the model, each time it is opened.
    """

    model: onnx.ModelProto
    names: tuple[str, ...]
    optimize: bool = False
    changed: Callable[[onnx.ModelProto], onnx.ModelProto] = lambda model: model
    _sessions: dict[tuple[int | str, ...], Any] = field(default_factory=dict, repr=False)

    def run(
        self, inputs: Any, *, watch: Collection[str] = (), seed: int = 0, precise: bool = False
    ) -> Values:
        """See `Executable.run`; chance has no seed there, but state that runs leave has."""
        computed = {n for node in self.model.graph.node for n in node.output if n}
        names = tuple(dict.fromkeys([*self.names, *(n for n in watch if n in computed)]))
        key: tuple[int | str, ...] = (seed if _keeps_statistics(self.model) else 0, *names)
        if names and key not in self._sessions:
            self._sessions[key] = session_for(
                self.changed(self.model), optimize=self.optimize, outputs=names
            )
        feed = next(candidate_feeds(self.model, inputs))
        # Copies: what ONNX Runtime returns keeps all memory that the run took.
        values = [deepcopy(v) for v in run(self._sessions[key], names, feed)] if names else []
        found = dict(zip(names, values, strict=True))
        return found | {name: feed[name] for name in watch if name in feed}

    def operands(self, inputs: Any, calls: Collection[Node]) -> Mapping[str, Values]:
        names = {node.name: {value.name for value in node.tensors} for node in calls}
        values = self.run(inputs, watch=set().union(*names.values()))
        return {call: {n: values[n] for n in read if n in values} for call, read in names.items()}

    def noise(self, inputs: Any, values: Values) -> float:
        # ONNX Runtime's optimizations are another way to sum.
        feed, names = next(candidate_feeds(self.model, inputs)), list(values)
        session = session_for(self.changed(self.model), outputs=names)
        return difference(list(values.values()), run(session, names, feed))


def _keeps_statistics(model: onnx.ModelProto) -> bool:
    """Whether norms in training mode write to what a session holds, so that no run repeats.

    Other sessions are left as they are: numbers drawn differ from run to run in one session alone.
    """
    norms = (node for node in model.graph.node if node.op_type == "BatchNormalization")
    return any(a.name == "training_mode" and a.i for node in norms for a in node.attribute)


@dataclass(frozen=True)
class OnnxFiles:
    """See `Files`.

    Attributes:
        example_feed: the example inputs.
        external: whether tensors go into a file of their own.
    """

    example_feed: Feed
    external: bool

    def writers(
        self, model: onnx.ModelProto, plan: Plan | None
    ) -> Mapping[str, Callable[[Path], str | None]]:
        return {".onnx": partial(self.write_fixed, model)}

    def write_fixed(self, model: onnx.ModelProto, path: Path) -> None:
        write_onnx(model, path, external=self.external)

    def feed(self, session: Any) -> Feed:
        return self.example_feed

    def example(self) -> tuple[Feed, None]:
        return self.example_feed, None

    def open(self, model: onnx.ModelProto, threads: int) -> Timed:
        return session_for(model, threads), self.example_feed


@dataclass(frozen=True)
class OnnxNetwork:
    """See `Network`.

    Attributes:
        traced: the model and its graph.
    """

    traced: TracedOnnx
    own_class: None = None
    autocasts: bool = False
    rounding: float = 0.0

    @property
    def model(self) -> onnx.ModelProto:
        return self.traced.model

    @property
    def graph(self) -> Graph:
        return self.traced.graph

    @property
    def inputs(self) -> Feed:
        return self.traced.feed

    @property
    def files(self) -> OnnxFiles:
        return OnnxFiles(self.traced.feed, self.traced.file.external)

    def probes(self) -> Iterator[Feed]:
        drawn = probing(self.inputs)
        yield drawn
        if any(drawn[name] is not array for name, array in self.inputs.items()):
            yield self.inputs  # zeros may be what an input has to be

    def parameter(self, name: str) -> Array:
        return read_tensor(self.traced, name)

    def weights(self, computed: Iterable[str] = ()) -> Mapping[str, Array]:
        trained = [p.value.name for p in self.graph.parameters if p.kind == "parameter"]
        rest = [name for name in computed if name not in self.graph.parameter_of]
        read = reader(self.model, rest)(self.inputs) if rest else {}
        values = {name: read[name] for name in rest if isinstance(read[name], np.ndarray)}
        return LazyArrays(
            lambda name: values[name] if name in values else weight(self.traced, name),
            [*trained, *values],
        )

    def gradients(self, loss: Callable[[Any], Any], inputs: Any) -> Mapping[str, Array]:
        raise AutopruneError(
            "ONNX models cannot be differentiated",
            hint="bring it into torch by ap.to_torch, or ask for what needs no gradients",
        )

    def call(self, node: str, operands: Mapping[str, Array]) -> tuple[Array, ...]:
        proto = self.model.graph.node[self.traced.positions[node]]
        known = (name for name in proto.input if name and name not in operands)
        given = {name: read_tensor(self.traced, name) for name in known}
        return run_alone(self.model, proto, {**operands, **given})

    def sample_calls(self, names: Collection[str]) -> Mapping[str, Sample | RuleError]:
        return sample_calls(self.traced, names)

    def with_parameters(self, values: Mapping[str, Array]) -> OnnxNetwork:
        if not values:
            return self
        model = with_tensors(self.traced, values, lambda name: np.asarray(values[name]))
        file = dataclasses.replace(self.traced.file, model=model)
        return OnnxNetwork(dataclasses.replace(self.traced, file=file))

    @cached_property
    def _itself(self) -> OnnxExecutable:
        return self.executable(self.model)

    def run(
        self,
        inputs: Any,
        *,
        overrides: Mapping[str, Array] = NOTHING,
        watch: Collection[str] = (),
        seed: int = 0,
        precise: bool = False,
    ) -> Values:
        owned = {n: self.parameter(n) for n in watch if n in self.graph.parameter_of}
        found = self.with_parameters(overrides)._itself.run(inputs, watch=watch, seed=seed)
        return {**owned, **overrides, **found} if owned else found

    def inner(self, inputs: Any, names: Collection[str]) -> Values:
        return self._inner.run(inputs, watch=names)

    def operands(self, inputs: Any, calls: Collection[Node]) -> Mapping[str, Values]:
        return self._inner.operands(inputs, calls)

    @cached_property
    def _inner(self) -> OnnxExecutable:
        return OnnxExecutable(self.model, (), optimize=True)

    def noise(self, inputs: Any, values: Values) -> float:
        return self._itself.noise(inputs, values)

    def without_outputs(self) -> OnnxNetwork:
        graph = dataclasses.replace(self.graph, loose=self.graph.outputs)
        return OnnxNetwork(dataclasses.replace(self.traced, graph=graph))

    def zeroed(self, typed: TypedGraph, kept: Kept, spared: Spared) -> OnnxExecutable:
        return dataclasses.replace(
            self.executable(self.model),
            changed=lambda _: zeroed_model(self.traced, typed, kept, spared),
        )

    def cut(self, typed: TypedGraph, kept: Kept) -> OnnxExecutable:
        return self.executable(cut_model(self.traced, typed, kept))

    def executable(self, model: onnx.ModelProto) -> OnnxExecutable:
        loose = {v.name for v in self.graph.loose}
        names = (o.name for o in self.model.graph.output if o.name not in loose)
        return OnnxExecutable(model, tuple(dict.fromkeys(names)))

    def deliver(
        self,
        cut: OnnxExecutable,
        choice: Choice,
        folded: tuple[str, ...],
        *,
        keep_class: bool,
        keep_config: bool,
    ) -> Delivered:
        plan = make_plan(choice.typed, choice.names, choice.kept).sealed()
        plan = plan.after(carried_plan(self.model))
        carry(cut.model, plan)
        notes = (CHANGED,) if was_changed(self.model) else ()
        return Delivered(cut.model, plan, "ONNX", notes=notes)

    def planned(self, cut: OnnxExecutable, plan: Plan) -> onnx.ModelProto:
        return cut.model
