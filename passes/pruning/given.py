"""What a user gave as a model: a module, an ONNX model, a file, or the result of another call."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.errors import TraceError
from autoprune.frameworks.network import Files, Network
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

    It may have come as the result of another call, or as a network that has been read, which is
    then of any framework.
    """

    model: Any
    is_onnx: bool
    inputs: Any = None
    dynamic_shapes: Any = None
    result: Saving | None = None
    network: Network | None = None

    def trace(self, outputs: tuple[int | str, ...] = ()) -> Network:
        """Read the model; TraceError if that cannot be, or it does not run on the inputs."""
        if self.network is not None:
            if outputs:
                raise _read_already(self.network)
            return self.network
        if self.is_onnx:
            from autoprune.frameworks.onnx.network import OnnxNetwork
            from autoprune.frameworks.onnx.trace import trace as read

            say("reading the model")
            return OnnxNetwork(read(self.model, self.inputs, outputs))
        from autoprune.frameworks.torch.network import trace_network

        self.check_framework("pruning")
        return trace_network(self.model, self._inputs, self.dynamic_shapes, outputs)

    def check_framework(self, doing: str, *, onnx: bool = True) -> None:
        """Refuse models of other frameworks than torch and, if that will do, ONNX: TraceError."""
        if self.network is None and (_is_module(self.model) or (self.is_onnx and onnx)):
            return
        got = self.model if self.network is None else self.network
        needed = "a torch.nn.Module or an ONNX model" if onnx else "a torch.nn.Module"
        raise TraceError(
            f"{doing} needs {needed}, got {type(got).__name__}",
            hint="`prune`, `inspect`, `apply_plan` and `compile` take more, such as a Network",
        )

    def as_onnx(self, folder: Path) -> tuple[Any, Any]:
        """The model as ONNX, and its inputs by name; what is not ONNX is written to the folder."""
        from autoprune.frameworks.onnx.sessions import open_session

        path = folder / "model.onnx"
        if self.result is None and self.is_onnx:
            return self.model, self.inputs
        if self.result is not None:
            self.result.write_fixed(path)
            return path, self.result.feed(open_session(path, 1))
        if self.network is None:
            from autoprune.frameworks.torch.files import TorchFiles
            from autoprune.frameworks.torch.trace import as_inputs

            files: Files = TorchFiles(as_inputs(self._inputs))
        else:
            files = self.network.files
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


def is_onnx(model: Any) -> TypeIs[str | Path | onnx.ModelProto]:
    """Whether it is a path or a ModelProto, without importing onnx."""
    loaded = sys.modules.get("onnx")
    return isinstance(model, str | Path) or (
        loaded is not None and isinstance(model, loaded.ModelProto)
    )


def _is_module(model: Any) -> bool:
    """Whether it is a module, without importing torch."""
    loaded = sys.modules.get("torch")
    return loaded is not None and isinstance(model, loaded.nn.Module)


def _read_already(network: Network) -> TraceError:
    return TraceError(
        f"{type(network).__name__} is a network that was read already",
        hint="give inputs, and the outputs that matter, where it is made",
    )


def given(model: Any, example_inputs: Any = None, dynamic_shapes: Any = None) -> Given:
    """What a user's model is, without importing the framework it is not of; TraceError if none."""
    if is_onnx(model):
        return Given(model, True, example_inputs, dynamic_shapes)
    if isinstance(model, Saving):
        inputs, shapes = model.example()
        if not _is_module(model.model):
            return Given(model.model, is_onnx(model.model), inputs, shapes, model)
        found = given(model.model, inputs, shapes)
        return replace(found, result=model)
    if isinstance(getattr(model, "graph", None), Graph):
        if example_inputs is not None or dynamic_shapes is not None:
            raise _read_already(model)
        return Given(model.model, False, network=model)
    from autoprune.frameworks.torch.wrappers import network_of

    return Given(network_of(model), False, example_inputs, dynamic_shapes)
