"""What a user gave as a model: a module, an ONNX model, a file, or the result of another call."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.errors import TraceError
from autoprune.frameworks.network import Network
from autoprune.ir.graph import Graph
from autoprune.passes.pruning.result import Saving
from autoprune.report.progress import say

if TYPE_CHECKING:
    import onnx
    from typing_extensions import TypeIs

# Each framework is imported by the branch that needs it: neither has to be installed for the other.


@dataclass(frozen=True)
class Given:
    """A model, a module without wrappers or an ONNX model, and what it is run on, as users give it.

    It may have come as the result of another call.
    """

    model: Any
    is_onnx: bool
    inputs: Any = None
    dynamic_shapes: Any = None
    result: Saving | None = None

    def trace(self, outputs: tuple[int | str, ...] = ()) -> Network:
        """Read the model; TraceError if that cannot be, or it does not run on the inputs."""
        if self.is_onnx:
            from autoprune.frameworks.onnx.network import OnnxNetwork
            from autoprune.frameworks.onnx.trace import trace as read

            say("reading the model")
            return OnnxNetwork(read(self.model, self.inputs, outputs))
        from autoprune.frameworks.torch.network import trace_network

        return trace_network(self.model, self._inputs, self.dynamic_shapes, outputs)

    def as_onnx(self, folder: Path) -> tuple[Any, Any]:
        """The model as ONNX, and its inputs by name; torch modules are written to the folder."""
        from autoprune.frameworks.onnx.sessions import open_session

        path = folder / "model.onnx"
        if self.result is None and self.is_onnx:
            return self.model, self.inputs
        if self.result is not None:
            self.result.write_fixed(path)
            return path, self.result.feed(open_session(path, 1))
        from autoprune.frameworks.torch.files import TorchFiles
        from autoprune.frameworks.torch.trace import as_inputs

        files = TorchFiles(as_inputs(self._inputs))
        files.write_fixed(self.model, path)
        return path, files.feed(open_session(path, 1))

    @property
    def _inputs(self) -> Any:
        if self.inputs is None:
            raise TraceError(
                "a torch module can only be traced on example inputs",
                hint="pass a tensor, a tuple of positional or a dict of keyword arguments",
            )
        return self.inputs


def traced(
    model: Any, example_inputs: Any, dynamic_shapes: Any, outputs: tuple[int | str, ...]
) -> Network:
    """A user's model, read by its framework unless it was; TraceError if that cannot be."""
    if not isinstance(getattr(model, "graph", None), Graph):
        return given(model, example_inputs, dynamic_shapes).trace(outputs)
    if example_inputs is not None or dynamic_shapes is not None or outputs:
        raise TraceError(
            f"{type(model).__name__} is a network that was read already",
            hint="give inputs, and the outputs that matter, where it is made",
        )
    network: Network = model
    return network


def is_onnx(model: Any) -> TypeIs[str | Path | onnx.ModelProto]:
    """Whether it is a path or a ModelProto, without importing onnx."""
    loaded = sys.modules.get("onnx")
    return isinstance(model, str | Path) or (
        loaded is not None and isinstance(model, loaded.ModelProto)
    )


def given(model: Any, example_inputs: Any = None, dynamic_shapes: Any = None) -> Given:
    """What a user's model is, without importing the framework it is not of; TraceError if none."""
    if is_onnx(model):
        return Given(model, True, example_inputs, dynamic_shapes)
    if isinstance(model, Saving):
        inputs, shapes = model.example()
        found = given(model.model, inputs, shapes)
        return Given(found.model, found.is_onnx, inputs, shapes, model)
    from autoprune.frameworks.torch.wrappers import network_of

    return Given(network_of(model), False, example_inputs, dynamic_shapes)
