"""The torch graph while it is written: its tensors, its numbers, and one ONNX node at a time.

A value may be needed in two forms: as a tensor, or as numbers, which are what torch takes as sizes.
Numbers that are computed from sizes are computed in Python in every forward pass, so that sizes
which the ONNX model leaves open stay open.
"""

from __future__ import annotations

import keyword
import operator
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import isfunction
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import fx, nn

from autoprune.errors import TraceError
from autoprune.frameworks.onnx.attributes import attributes_of, plain
from autoprune.frameworks.onnx.constants import SMALL
from autoprune.frameworks.onnx.file import opset
from autoprune.frameworks.onnx.functions import operator_name
from autoprune.frameworks.onnx.signatures import signature_of
from autoprune.frameworks.onnx.tensors import read_tensor
from autoprune.frameworks.onnx.trace import TracedOnnx, reads

Written = fx.Node | list[fx.Node]
"""The output of an operator, or its outputs in order."""

Numbers = Any
"""A number, nested tuples of them, or the fx node that computes an array of them."""

Write = Callable[["OnnxCall"], Written]

ORIGIN = "onnx"
"""Where an fx node's `meta` says which ONNX node it belongs to."""

OPERATORS: dict[str, Write] = {}
"""Writes the tensors an ONNX operator computes."""

SIZES: dict[str, Write] = {}
"""Writes the numbers an ONNX operator computes."""


def writes(names: str, table: dict[str, Write] = OPERATORS) -> Callable[[Write], Write]:
    """Register a function for the ONNX operators in `names`, separated by spaces."""

    def register(write: Write) -> Write:
        table.update(dict.fromkeys(names.split(), write))
        return write

    return register


def writes_as(
    names: str,
    target: Callable[..., Any],
    signature: str = "",
    table: dict[str, Write] = OPERATORS,
    *,
    parts: bool = False,
) -> None:
    """Write ONNX operators as calls of a function.

    Args:
        names: of the operators, separated by spaces.
        target: the function, which has to have a name that can be imported.
        signature: the inputs and, as keywords, the attributes that it takes, in the words of
            `signature_of`: `x repeats! | axis=-1`. Absent inputs are None; those in numbers may be
            attributes in older opsets. Nothing before the bar stands for all inputs, as tensors.
        table: where to register it.
        parts: whether the function returns the outputs in a tuple.
    """
    known = signature_of(signature)

    @writes(names, table)
    def write(call: OnnxCall) -> Written:
        inputs = [
            call.given(i, name[:-1]) if name.endswith("!") else call.tensor(i)
            for i, name in enumerate(known.inputs)
        ]
        settings = {name: call.attribute(a, d) for a, (name, d) in known.attributes.items()}
        emit = call.emit_parts if parts else call.emit
        return emit(target, *(inputs if known.inputs else call.tensors), **settings)


def operator_key(node: onnx.NodeProto) -> str:
    """The operator's name; those outside the standard have their domain in front."""
    return operator_name(node.domain, node.op_type).removeprefix("onnx.")


class Tracer(fx.Tracer):
    """Reads generated code back, as unpickling a module does, with the functions here whole."""

    def __init__(self) -> None:
        modules = [m for name, m in sys.modules.items() if name.startswith(f"{__package__}.")]
        found = (value for m in modules for value in vars(m).values())
        super().__init__(autowrap_functions=tuple(f for f in found if isfunction(f)))


def _new_graph() -> fx.Graph:
    return fx.Graph(tracer_cls=Tracer)


@dataclass
class Writer:
    """Writes the graph of one ONNX model.

    Attributes:
        traced: the model.
        root: owns the tensors.
        graph: what has been written so far.
        tensors: by value name, the fx node of each value that was needed as a tensor.
        numbers: the same for values that were needed as numbers.
        names: by value name, the name of each tensor that `root` owns.
    """

    traced: TracedOnnx
    root: nn.Module = field(default_factory=nn.Module)
    graph: fx.Graph = field(default_factory=_new_graph)
    tensors: dict[str, fx.Node] = field(default_factory=dict)
    numbers: dict[str, Numbers] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.trained = {p.value.name for p in self.traced.graph.parameters if p.kind == "parameter"}
        self.state = {p.value.name for p in self.traced.graph.parameters if p.kind == "buffer"}
        model = self.traced.model
        self.used = {o.name for o in model.graph.output}
        self.used.update(name for node in model.graph.node for name in reads(node))
        for value in self.traced.graph.inputs:
            self.tensors[value.name] = self.graph.placeholder(self._input_name(value.name))

    def known(self, name: str) -> NDArray[Any] | None:
        """The value of that name, if it is the same in every run."""
        numbers = self.traced.numbers
        fixed = name in numbers.computed and name not in numbers.sized
        return read_tensor(self.traced, name) if fixed or name in self.traced.owners else None

    def shape(self, name: str) -> tuple[int, ...]:
        """The sizes of a value on the example inputs."""
        return self.traced.numbers.seen[name].shape

    def tensor(self, name: str) -> fx.Node:
        """The value of that name as a tensor."""
        if name not in self.tensors:
            known = self.known(name)
            if known is not None:
                self.tensors[name] = self._owned(name, known)
            elif name in self.traced.numbers.sized:
                self._write_sized(name)
            else:
                raise TraceError("a value is used and never computed", where=f"value {name}")
        return self.tensors[name]

    def number(self, name: str) -> Numbers:
        """The value of that name as numbers."""
        if name not in self.numbers:
            known = self.known(name)
            node = self._computes(name)
            if known is not None:
                self.numbers[name] = plain(known)
            elif node is not None and operator_key(node) in SIZES:
                self.numbers[name] = SIZES[operator_key(node)](OnnxCall(self, node))
            else:
                self.numbers[name] = self.graph.call_function(numbers_of, (self.tensor(name),))
        return self.numbers[name]

    def write(self, node: onnx.NodeProto) -> None:
        """Write a node whose inputs are written.

        Raises:
            TraceError: if there is nothing in torch to write it as.
        """
        call = OnnxCall(self, node)
        write = OPERATORS.get(operator_key(node))
        if write is None:
            raise call.unsupported("it has no counterpart here")
        written = write(call)
        outputs = written if isinstance(written, list) else [written]
        if any(name in self.used for name in node.output[len(outputs) :]):
            raise call.unsupported("its further outputs are used")
        self.tensors.update(zip(node.output, outputs, strict=False))

    def add_module(self, kind: str, module: nn.Module) -> str:
        """Own a module; returns its name."""
        name = self._free(f"{kind}_{sum(1 for _ in self.root.children())}")
        self.root.add_module(name, module)
        return name

    def _computes(self, name: str) -> onnx.NodeProto | None:
        """The node that computes a number from sizes."""
        numbers = self.traced.numbers
        if name not in numbers.sized or name not in numbers.computed:
            return None
        node: onnx.NodeProto = self.traced.model.graph.node[numbers.computed[name]]
        return node

    def _write_sized(self, name: str) -> None:
        node, seen = self._computes(name), self.traced.numbers.seen[name]
        assert node is not None
        few = int(np.prod(seen.shape)) <= SMALL
        if few and operator_key(node) in SIZES:
            args = (self.number(name), getattr(torch, seen.dtype), self.like())
            self.tensors[name] = self.graph.call_function(tensor_of, args)
        else:
            self.write(node)

    def like(self) -> fx.Node | None:
        """A tensor that is on the device of the model."""
        inputs = self.traced.graph.inputs
        return self.tensors[inputs[0].name] if inputs else None

    def _owned(self, name: str, array: NDArray[Any]) -> fx.Node:
        """A parameter if it is trained, otherwise a buffer; only state is saved with the model."""
        tensor = as_tensor(array)
        path = self.names[name] = self._free(_identifiers(name))
        *folders, leaf = path.split(".")
        module = self.root
        for folder in folders:
            if folder not in module._modules:
                module.add_module(folder, nn.Module())
            module = module.get_submodule(folder)
        if name in self.trained and tensor.is_floating_point():
            module.register_parameter(leaf, nn.Parameter(tensor))
        else:
            persistent = name in self.state or name in self.trained
            module.register_buffer(leaf, tensor, persistent=persistent)
        return self.graph.get_attr(path)

    def _free(self, path: str) -> str:
        """The path, with underscores if something has that name or lies on the way."""
        folders = path.split(".")
        while any(".".join(folders[:i]) in self.names.values() for i in range(1, len(folders))):
            folders = ["_".join(folders)]
        path = ".".join(folders)
        while _present(self.root, path):
            path += "_"
        return path

    def _input_name(self, name: str) -> str:
        return _identifiers(name).replace(".", "_")


@dataclass(frozen=True)
class OnnxCall:
    """One ONNX node that is to be written.

    Attributes:
        writer: holds what has been written.
        node: the node.
    """

    writer: Writer
    node: onnx.NodeProto

    @property
    def op(self) -> str:
        return self.node.op_type

    @property
    def opset(self) -> int:
        return opset(self.writer.traced.model)

    def has(self, position: int) -> bool:
        return position < len(self.node.input) and bool(self.node.input[position])

    def tensor(self, position: int) -> Any:
        """An input as an fx node, or None where it is absent."""
        return self.writer.tensor(self.node.input[position]) if self.has(position) else None

    @property
    def tensors(self) -> list[fx.Node]:
        return [self.writer.tensor(name) for name in self.node.input if name]

    def number(self, position: int) -> Numbers:
        """An input as numbers, or None where it is absent."""
        return self.writer.number(self.node.input[position]) if self.has(position) else None

    def given(self, position: int, attribute: str) -> Numbers:
        """Numbers that are an attribute in older opsets and an input in newer ones."""
        return self.number(position) if self.has(position) else self.attribute(attribute)

    def known(self, position: int) -> NDArray[Any] | None:
        """The value of an input, if it is the same in every run."""
        return self.writer.known(self.node.input[position]) if self.has(position) else None

    def shape(self, position: int) -> tuple[int, ...]:
        """The sizes of an input on the example inputs."""
        return self.writer.shape(self.node.input[position])

    def dtype(self, position: int) -> str:
        """The dtype of an input, as numpy calls it."""
        return self.writer.traced.numbers.seen[self.node.input[position]].dtype

    @property
    def rank(self) -> int:
        return len(self.shape(0))

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute; lists and tensors are tuples, and where the default is a bool it is one."""
        given = plain(attributes_of(self.node).get(name, default))
        return bool(given) if isinstance(default, bool) else given

    def emit(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """A call of a function, which has to have a name that can be imported."""
        return self._marked(self.writer.graph.call_function(target, args, kwargs))

    def emit_parts(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> list[fx.Node]:
        """A call of a function that returns as many parts as the node has outputs, or more."""
        whole = self.emit(target, *args, **kwargs)
        return [self.emit(operator.getitem, whole, i) for i in range(len(self.node.output))]

    def emit_module(self, kind: str, module: nn.Module, *args: fx.Node | None) -> fx.Node:
        name = self.writer.add_module(kind, module)
        return self._marked(self.writer.graph.call_module(name, args))

    def _marked(self, node: fx.Node) -> fx.Node:
        node.meta[ORIGIN] = self.place
        return node

    @property
    def place(self) -> str:
        name = self.node.name or next((n for n in self.node.output if n), "")
        return f"node {name}, operator {operator_key(self.node)}"

    def unsupported(self, why: str) -> TraceError:
        return TraceError(
            f"the ONNX operator {operator_key(self.node)} cannot be brought into torch: {why}",
            where=self.place,
            hint="autoprune.prune works on the ONNX model itself",
        )


def numbers_of(tensor: torch.Tensor) -> NDArray[Any]:
    """The elements of a tensor as numbers of Python."""
    return np.array(tensor.tolist(), dtype=object)


def tensor_of(numbers: Any, dtype: torch.dtype, like: torch.Tensor | None) -> torch.Tensor:
    """Numbers as a tensor, on the device of `like`."""
    nested = numbers.tolist() if isinstance(numbers, np.ndarray) else numbers
    return torch.tensor(nested, dtype=dtype, device=None if like is None else like.device)


def as_tensor(array: NDArray[Any]) -> torch.Tensor:
    """A copy of an array as a tensor; bfloat16, which numpy lacks, included.

    Integers of less than eight bits become integers of eight.

    Raises:
        TraceError: if torch has no such dtype.
    """
    name = array.dtype.name
    if name in _WIDENED:
        return torch.from_numpy(array.astype(_WIDENED[name]))
    dtype = torch_dtype(name)
    if array.dtype.kind == "V":
        return torch.from_numpy(array.astype(np.float32)).to(dtype)
    return torch.from_numpy(np.array(array).view(array.dtype.name))


_WIDENED = {"int4": "int8", "int2": "int8", "uint4": "uint8", "uint2": "uint8"}
"""Dtypes that torch can hold but not compute with, and those that stand in for them."""


def as_array(tensor: torch.Tensor) -> NDArray[Any]:
    """A tensor as an array; of bfloat16 as ONNX Runtime gives it."""
    if tensor.dtype == torch.bfloat16:
        return tensor.detach().float().cpu().numpy().astype(_BFLOAT16)
    array: NDArray[Any] = tensor.numpy(force=True)
    return array


_BFLOAT16 = helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)


def dtype_of(elem_type: int) -> torch.dtype:
    """The dtype that an ONNX element type stands for."""
    return torch_dtype(helper.tensor_dtype_to_np_dtype(elem_type).name)


def torch_dtype(name: str) -> torch.dtype:
    """The dtype that numpy calls so.

    Raises:
        TraceError: if torch has no such dtype, or cannot compute with it.
    """
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or name in _WIDENED:
        raise TraceError(
            f"torch has no numbers of the type {name}",
            hint="autoprune.prune works on the ONNX model itself",
        )
    return dtype


def _identifiers(name: str) -> str:
    """A name of the file as a dotted path of Python names that no module has already."""
    parts = [re.sub(r"\W", "_", part).strip("_") or "value" for part in name.split(".")]
    return ".".join(_identifier(part) for part in parts)


def _identifier(part: str) -> str:
    if part.isdigit():
        return part  # as in a Sequential
    part = f"_{part}" if part[0].isdigit() else part
    taken = keyword.iskeyword(part) or hasattr(_EMPTY, part)
    return f"{part}_" if taken else part


_EMPTY = fx.GraphModule(nn.Module(), fx.Graph())


def _present(root: nn.Module, path: str) -> bool:
    folder, _, name = path.rpartition(".")
    try:
        return hasattr(root.get_submodule(folder), name)
    except AttributeError:
        return False
