"""A perceptron as passes see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from autoprune.analysis.experiments.experiment import Sample
from autoprune.analysis.guarantees import Spared
from autoprune.analysis.planning import make_plan
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import AutopruneError, RuleError
from autoprune.frameworks.network import NOTHING, Array, Choice, Delivered, Values
from autoprune.ir.graph import Graph, Node
from autoprune.ir.plan import Plan
from autoprune.ir.positions import Kept, cut_array, kept_masks
from tests.contributing.scratch.framework.model import Perceptron
from tests.contributing.scratch.framework.trace import trace


@dataclass(frozen=True)
class PerceptronFiles:
    """See `Files`."""

    inputs: Array
    external: bool = False

    def writers(
        self, model: Perceptron, plan: Plan | None
    ) -> Mapping[str, Callable[[Path], str | None]]:
        return {".npz": lambda path: np.savez(path, **model.weights)}

    def example(self) -> tuple[Array, None]:
        return self.inputs, None

    def write_fixed(self, model: Perceptron, path: Path) -> None:
        raise AutopruneError("perceptrons are not written as ONNX")

    def feed(self, session: Any) -> Mapping[str, Array]:
        return {"x": self.inputs}

    def open(self, model: Perceptron, threads: int) -> tuple[Any, Mapping[str, Array]]:
        raise AutopruneError("perceptrons are not run in ONNX Runtime")


@dataclass(frozen=True)
class PerceptronNetwork:
    """See `Network`."""

    model: Perceptron
    inputs: Array
    rounding: float = 0.0
    autocasts: bool = False
    own_class: None = None

    @cached_property
    def graph(self) -> Graph:
        return trace(self.model, len(self.inputs))

    @property
    def files(self) -> PerceptronFiles:
        return PerceptronFiles(self.inputs)

    def run(
        self,
        inputs: Array,
        *,
        overrides: Mapping[str, Array] = NOTHING,
        watch: Collection[str] = (),
        seed: int = 0,
        precise: bool = False,
    ) -> Values:
        model = self.with_parameters(overrides).model
        values = model.values(inputs)
        known = {**model.weights, **values}
        last = f"{model.depth - 1}"
        return {name: known[name] for name in dict.fromkeys((last, *watch)) if name in known}

    def inner(self, inputs: Array, names: Collection[str]) -> Values:
        return self.run(inputs, watch=names)

    def operands(self, inputs: Array, calls: Collection[Node]) -> Mapping[str, Values]:
        found = self.run(inputs, watch=[v.name for call in calls for v in call.tensors])
        return {
            call.name: {v.name: found[v.name] for v in call.tensors if v.name not in self.weights()}
            for call in calls
        }

    def noise(self, inputs: Array, values: Values) -> float:
        return 0.0

    def probes(self) -> Iterator[Array]:
        yield self.inputs

    def parameter(self, name: str) -> Array:
        return self.model.weights[name]

    def weights(self, computed: Iterable[str] = ()) -> Mapping[str, Array]:
        return self.model.weights

    def gradients(self, loss: Callable[[Any], Any], inputs: Array) -> Mapping[str, Array]:
        raise AutopruneError("perceptrons are not differentiated")

    def call(self, node: str, operands: Mapping[str, Array]) -> tuple[Array, ...]:
        found = {**self.model.weights, **operands}
        (x,) = (value for name, value in operands.items() if name not in self.model.weights)
        return (x @ found[f"{node}.weight"].T + found[f"{node}.bias"],)

    def sample_calls(self, names: Collection[str]) -> Mapping[str, Sample | RuleError]:
        return {}

    def with_parameters(self, values: Mapping[str, Array]) -> PerceptronNetwork:
        return self.executable(Perceptron({**self.model.weights, **values}))

    def without_outputs(self) -> PerceptronNetwork:
        raise AutopruneError("all outputs of perceptrons matter")

    def zeroed(self, typed: TypedGraph, kept: Kept, spared: Spared) -> PerceptronNetwork:
        weights = dict(self.model.weights)
        for name in weights:
            left = spared.get(name, frozenset())
            rest = {uid: units for uid, units in kept.items() if uid not in left}
            for mask in kept_masks(typed.types[name], rest):
                weights[name] = np.where(mask, weights[name], 0)
        return self.executable(Perceptron(weights))

    def cut(self, typed: TypedGraph, kept: Kept) -> PerceptronNetwork:
        weights = self.model.weights
        return self.executable(
            Perceptron({n: cut_array(w, typed.types[n], kept) for n, w in weights.items()})
        )

    def executable(self, model: Perceptron) -> PerceptronNetwork:
        return dataclasses.replace(self, model=model)

    def deliver(
        self,
        cut: PerceptronNetwork,
        choice: Choice,
        folded: tuple[str, ...],
        *,
        keep_class: bool,
        keep_config: bool,
    ) -> Delivered:
        plan = make_plan(choice.typed, choice.names, choice.kept).sealed()
        return Delivered(cut.model, plan, "Perceptron")

    def planned(self, cut: PerceptronNetwork, plan: Plan) -> Perceptron:
        return cut.model
