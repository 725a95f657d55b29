"""Network: the one view that every pass has of a model, whatever framework it is of.

A pass reads `graph`, asks for weights one by one, and runs the network: as it is, with other
parameters, with units set to zero, or cut. What these share is never copied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from autoprune.analysis.experiments.experiment import Sample
from autoprune.analysis.guarantees import Spared
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import RuleError
from autoprune.ir.graph import Graph, Node
from autoprune.ir.plan import Plan
from autoprune.ir.positions import Kept

Array: TypeAlias = NDArray[Any]

Values: TypeAlias = dict[str, Any]
"""Arrays by value name, of dtypes of ml_dtypes where numpy has none; lists of arrays where a value
is a sequence."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


class LazyArrays(Mapping[str, Array]):
    """Arrays by name, each read whenever it is asked for, so that one is in memory at a time."""

    def __init__(self, read: Callable[[str], Array], names: Iterable[str]) -> None:
        self._read = read
        self._names = dict.fromkeys(names)

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Executable(Protocol):
    """What computes the values of a graph.

    Attributes:
        model: in the form of its framework.
    """

    @property
    def model(self) -> Any: ...

    def run(
        self, inputs: Any, *, watch: Collection[str] = (), seed: int = 0, precise: bool = False
    ) -> Values:
        """The outputs that matter, and the values of `watch`, by name.

        Args:
            inputs: as users give example inputs.
            watch: names of values to return beside the outputs; those that do not come about, and
                those that are no tensors, are left out.
            seed: where numbers are drawn.
            precise: compute in the precision of the parameters where less was asked for.

        Raises:
            TraceError: if it does not run; `where` says how far it came.
        """
        ...

    def operands(self, inputs: Any, calls: Collection[Node]) -> Mapping[str, Values]:
        """The operands of calls as these read them, by the name of the node and of the value.

        Parameters are left out. Where something was written to a value after it was made, that is
        not what `run` gives.
        """
        ...

    def noise(self, inputs: Any, values: Values) -> float:
        """How far another way to sum the same products is from values that a run gave.

        0 where there is no other way.
        """
        ...


class OwnClass(Protocol):
    """What the class that a model is of can follow, besides a cut of its graph.

    Attributes:
        configuration: what the model's configuration is called.
    """

    @property
    def configuration(self) -> str: ...

    def ties(self, typed: TypedGraph, free: frozenset[int]) -> tuple[frozenset[int], ...]:
        """Leaves that have to shrink alike, as the model's code states their size once."""
        ...

    def is_configured(self, *, required: bool) -> bool:
        """Whether a configuration describes the model, which can follow.

        Raises:
            AutopruneError: if it is required, and cannot follow.
        """
        ...

    def describable(self, typed: TypedGraph, roles: Sequence[frozenset[int]]) -> Describable:
        """What its configuration can state of leaves that shrink alike, largest first."""
        ...

    def objections(
        self, choice: Choice, parts: Sequence[frozenset[int]], *, configured: bool
    ) -> dict[int, str]:
        """Leaves whose cut no model of the class can follow, found by trying, and why not.

        Args:
            choice: what is to be cut.
            parts: leaves that are accepted or left alone together, tried in this order.
            configured: its configuration has to describe it, too.
        """
        ...


@dataclass(frozen=True)
class Describable:
    """What a configuration can state.

    Attributes:
        classes: leaves that have to shrink alike, most parameters first.
        steps: by leaf, what its size has to be a multiple of.
        objections: by leaf, why it has to keep its size.
    """

    classes: tuple[frozenset[int], ...] = ()
    steps: Mapping[int, int] = field(default_factory=dict)
    objections: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """What stays of a network.

    Attributes:
        typed: its graph's axis types.
        names: group names by leaf.
        kept: units that stay, by leaf.
    """

    typed: TypedGraph
    names: Mapping[int, str]
    kept: Kept


@dataclass(frozen=True)
class Delivered:
    """A cut network in the form that users get.

    Attributes:
        model: the network.
        plan: that makes it; sealed, after what had been done before.
        form: what it is: `same class`, `GraphModule` or `ONNX`.
        form_reason: why it is not of the model's own class, or empty.
        obstacle: why its configuration cannot describe it, or empty.
        notes: what else the user should know.
    """

    model: Any
    plan: Plan
    form: str
    form_reason: str = ""
    obstacle: str = ""
    notes: tuple[str, ...] = ()


class Files(Protocol):
    """How models of a framework are written, and opened in ONNX Runtime.

    Attributes:
        external: whether tensors go into a file of their own in ONNX.
    """

    @property
    def external(self) -> bool: ...

    def writers(self, model: Any, plan: Plan | None) -> Mapping[str, Callable[[Path], str | None]]:
        """What writes each format, by suffix; it says why a file's batch does not vary."""
        ...

    def write_fixed(self, model: Any, path: Path) -> None:
        """Write a model as ONNX for inputs of the sizes of the example inputs."""
        ...

    def feed(self, session: Any) -> Mapping[str, Array]:
        """The example inputs by the names of the inputs of a session of a written model."""
        ...

    def example(self) -> tuple[Any, Any]:
        """The example inputs, and the dynamic shapes that were asked for."""
        ...

    def open(self, model: Any, threads: int) -> tuple[Any, Mapping[str, Array]]:
        """A model in a session of ONNX Runtime, and the example inputs by name."""
        ...


class Network(Executable, Protocol):
    """A traced model.

    Attributes:
        graph: the model as data; value names are keys of everything below.
        inputs: the example inputs.
        rounding: the rounding level of the least precise numbers it computes in, as far as that is
            known; 0 if it is not.
        autocasts: whether it computes some of them in less than its parameters have.
        own_class: what the model's class can follow; None if a model is but its graph.
        files: how the model, and what is made of it, is written.
    """

    @property
    def graph(self) -> Graph: ...
    @property
    def inputs(self) -> Any: ...
    @property
    def rounding(self) -> float: ...
    @property
    def autocasts(self) -> bool: ...
    @property
    def own_class(self) -> OwnClass | None: ...
    @property
    def files(self) -> Files: ...

    def run(
        self,
        inputs: Any,
        *,
        overrides: Mapping[str, Array] = NOTHING,
        watch: Collection[str] = (),
        seed: int = 0,
        precise: bool = False,
    ) -> Values:
        """As `Executable.run`; by name, `overrides` are other values of parameters in this run."""
        ...

    def inner(self, inputs: Any, names: Collection[str]) -> Values:
        """Values on the way alone, by name: what comes after them need not be computed.

        Args:
            inputs: as users give example inputs.
            names: of the values.

        Raises:
            TraceError: if it does not run.
        """
        ...

    def probes(self) -> Iterator[Any]:
        """Inputs to compare on, the best first: example inputs in which no tensor is all zeros."""
        ...

    def parameter(self, name: str) -> Array:
        """A tensor that the graph owns, as it is stored."""
        ...

    def weights(self, computed: Iterable[str] = ()) -> Mapping[str, Array]:
        """Trained parameters by value name, in float32 or better; each is read when asked for.

        Args:
            computed: names of values that depend on parameters alone, which are added.
        """
        ...

    def gradients(self, loss: Callable[[Any], Any], inputs: Any) -> Mapping[str, Array]:
        """Gradients of a loss by the name of the parameter; of those that it depends on.

        Args:
            loss: from what the forward returns to a number of the framework.
            inputs: as users give example inputs.

        Raises:
            AutopruneError: if the framework does not differentiate.
        """
        ...

    def call(self, node: str, operands: Mapping[str, Array]) -> tuple[Array, ...]:
        """What a call of the graph computes from these operands, by value name."""
        ...

    def sample_calls(self, names: Collection[str]) -> Mapping[str, Sample | RuleError]:
        """The calls of the given nodes on the operands that the inputs give them; or why not."""
        ...

    def with_parameters(self, values: Mapping[str, Array]) -> Network:
        """The same network with other values of some parameters."""
        ...

    def without_outputs(self) -> Network:
        """The same network, whose outputs may all change shape."""
        ...

    def zeroed(self, typed: TypedGraph, kept: Kept, spared: Spared) -> Executable:
        """The network with all positions set to zero that do not stay.

        Args:
            typed: the graph's axis types.
            kept: the units that stay.
            spared: by parameter, leaves that are left whole in it.
        """
        ...

    def cut(self, typed: TypedGraph, kept: Kept) -> Executable:
        """The network without the units that do not stay."""
        ...

    def executable(self, model: Any) -> Executable:
        """A model made of this one, to be run beside it; it is not changed by that."""
        ...

    def deliver(
        self,
        cut: Any,
        choice: Choice,
        folded: tuple[str, ...],
        *,
        keep_class: bool,
        keep_config: bool,
    ) -> Delivered:
        """A cut network in the form that users get, with the plan that makes it.

        Args:
            cut: what `cut` made of this network by `choice`.
            choice: what stays.
            folded: parameters of this network that had taken up constants.
            keep_class: of the model's own class, where possible.
            keep_config: where its configuration has to describe it.

        Raises:
            TraceError: if the graph is not what the model computes.
        """
        ...

    def planned(self, cut: Any, plan: Plan) -> Any:
        """What `cut` made of this network, in the form that one step of a plan is about.

        Raises:
            PlanError: if that computes something else.
        """
        ...
