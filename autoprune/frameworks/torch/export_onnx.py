"""torch.nn.Module -> ONNX file, checked and timed in ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import nn

from autoprune.errors import AutopruneError, NotEqualError, first_line
from autoprune.frameworks.onnx.file import session_for, write_onnx
from autoprune.frameworks.torch.batch import Example, FixedBatch, export_any_batch
from autoprune.frameworks.torch.equality import difference, evaluating, probing, run, tolerance
from autoprune.frameworks.torch.export_gaps import decompositions, translations
from autoprune.frameworks.torch.objects import Inputs, input_leaves
from autoprune.frameworks.torch.quiet import quiet, quiet_torch
from autoprune.frameworks.torch.trace import copy_of, exportable

NEARLY = 1e-4
"""Scalars that are this close to zero or one might be taken for it."""

CHATTY = ("torch.onnx", "onnxscript", "onnx_ir")
"""Loggers to which the exporter reports its progress and its internals."""


def export_onnx(
    model: nn.Module, inputs: Inputs, path: str | Path, dynamic_shapes: Any = None
) -> float:
    """Write a model in evaluation mode as ONNX, once ONNX Runtime has agreed with torch.

    Returns:
        The largest relative difference between ONNX Runtime and torch on the example inputs.

    Raises:
        NotEqualError: if they differ by more than rounding, also because the network draws random
            numbers; nothing is written then.
        AutopruneError: if the exporter fails, or ONNX Runtime does; nothing is written then.
        TraceError: if the model cannot be copied.
    """
    exported, gap = checked_onnx(model, inputs, dynamic_shapes, str(path))
    write_onnx(exported, Path(path))
    return gap


def checked_onnx(
    model: nn.Module, inputs: Inputs, dynamic_shapes: Any = None, where: str = "model.onnx"
) -> tuple[onnx.ModelProto, float]:
    """What `export_onnx` writes, and returns; errors as there."""
    work = copy_of(model)
    with evaluating(work):
        examples = (Example(inputs, run(work, inputs)),)

    def attempt(*, decompose: bool = False) -> tuple[onnx.ModelProto, float]:
        exported = _export(model, inputs, dynamic_shapes, where, decompose=decompose)
        return exported, _check(exported, examples, where)

    with quiet(*CHATTY):
        try:
            return attempt()
        except AutopruneError as failure:
            if isinstance(failure, NotEqualError) and _draws(model, inputs):
                raise NotEqualError(
                    "the network draws random numbers in evaluation mode, so what it computes in "
                    "ONNX Runtime and in torch cannot be compared",
                    where=where,
                    hint="save as .pt2 or .safetensors instead",
                ) from None
            try:
                return attempt(decompose=True)
            except AutopruneError:
                raise failure from failure.__cause__


def write_any_batch(model: nn.Module, inputs: Inputs, path: Path) -> None:
    """Write a model as ONNX whose batch varies, once ONNX Runtime agrees with torch on several.

    Raises:
        FixedBatch: if that is not to be had.
    """
    program, examples = export_any_batch(model, inputs)
    failure = ""
    with quiet(*CHATTY), torch.no_grad():
        for decompose in (False, True):
            try:
                exported = _translate(
                    program.run_decompositions(decompositions()) if decompose else program
                )
                _check(exported, examples, str(path))
            except AutopruneError as error:
                failure = failure or error.what
            except Exception as error:
                failure = failure or _reason(error)
            else:
                name_batch(exported)
                write_onnx(exported, path)
                return
    raise FixedBatch(failure)


def name_batch(model: onnx.ModelProto) -> None:
    """Call the axis that varies `batch`, where the exporter made up a name."""
    shapes = [
        value.type.tensor_type.shape
        for value in (*model.graph.input, *model.graph.output, *model.graph.value_info)
    ]
    made_up = next((dim.dim_param for shape in shapes for dim in shape.dim if dim.dim_param), "")
    for dim in (dim for shape in shapes for dim in shape.dim):
        if made_up.isidentifier() and dim.dim_param:
            dim.dim_param = re.sub(rf"\b{made_up}\b", "batch", dim.dim_param)


def _export(
    model: nn.Module, inputs: Inputs, dynamic_shapes: Any, where: str, *, decompose: bool
) -> onnx.ModelProto:
    """A copy of a model as ONNX, perhaps without the operators that the exporter gets wrong."""
    # Of a module that remembers things between calls, tracing may leave half of them changed.
    work = copy_of(model)
    (args, kwargs), _ = exportable(work, inputs)
    with evaluating(work), torch.no_grad(), quiet_torch():
        try:
            if decompose:
                traced = torch.export.export(
                    work, args, kwargs, dynamic_shapes=dynamic_shapes, strict=False
                )
                return _translate(traced.run_decompositions(decompositions()))
            return _translate(work, args, kwargs=kwargs, dynamic_shapes=dynamic_shapes)
        except Exception as error:
            raise AutopruneError(
                f"torch.onnx.export failed: {_reason(error)}",
                where=where,
                hint="save as .pt2 or .safetensors instead, or report the operator",
            ) from error


def _reason(error: BaseException) -> str:
    """What the error says that torch's own, about how to report it, was raised from."""
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {first_line(cause)}"


def _translate(
    model: nn.Module | torch.export.ExportedProgram, *args: Any, **choices: Any
) -> onnx.ModelProto:
    """What torch makes of a module or an exported one."""
    program = torch.onnx.export(
        model, *args, dynamo=True, verbose=False, optimize=False,
        custom_translation_table=translations(), **choices,
    )  # fmt: skip
    assert program is not None
    _optimize(program)
    return program.model_proto


def _check(exported: onnx.ModelProto, examples: Sequence[Example], where: str) -> float:
    """How far ONNX Runtime is from what is expected of an exported model.

    Raises:
        AutopruneError: if it does not run.
        NotEqualError: if it differs by more than rounding.
    """
    try:
        session = session_for(exported)
        feeds = [feed_of(session, probing(example.inputs)) for example in examples]
        got = [session.run(None, feed) for feed in feeds]
    except AutopruneError as error:
        if "NOT_IMPLEMENTED" in str(error):
            error.hint = (
                "save as .pt2 instead, or a copy in single precision (model.float(), and autocast "
                "switched off)"
            )
        raise
    except Exception as error:  # ONNX Runtime's errors have no class of their own
        raise AutopruneError(
            f"ONNX Runtime does not run what torch.onnx.export made: {error}",
            where=where,
            hint="save as .pt2 or .safetensors instead, or report the operator",
        ) from error
    most = 0.0
    for (_, expected), outputs in zip(examples, got, strict=True):
        gap = difference(expected, [torch.from_numpy(np.asarray(output)) for output in outputs])
        if gap > tolerance(expected) * 10:
            raise NotEqualError(
                f"ONNX Runtime differs from torch by {gap:.2g}",
                where=where,
                hint="report it with the operator list; .pt2 is an alternative",
            )
        most = max(most, gap)
    return most


def _optimize(program: torch.onnx.ONNXProgram) -> None:
    """Let the exporter simplify its graph, but not by taking small numbers for zero.

    It leaves out the addition of a number below 1e-8, and so the epsilon that keeps a division from
    being one by zero, and a factor within 1e-5 of one. Such constants are inputs while it works.
    """
    graph = program.model.graph
    kept = []
    for node in list(graph.all_nodes()):
        if node.op_type == "Constant" and _nearly_zero_or_one(node.outputs[0]) is not None:
            constant = node.outputs[0]
            scalar = ir.Value(
                name=f"{constant.name}_kept", const_value=ir.convenience.get_const_tensor(constant)
            )
            graph.register_initializer(scalar)
            ir.convenience.replace_all_uses_with(constant, scalar)
    for value in list(graph.initializers.values()):
        if (number := _nearly_zero_or_one(value)) is not None:
            value.shape, value.type = ir.Shape(()), ir.TensorType(number.dtype)
            value.const_value = None
            del graph.initializers[value.name or ""]
            graph.inputs.append(value)
            kept.append((value, number))
    program.optimize()
    for value, number in kept:
        graph.inputs.remove(value)
        value.const_value = number
        graph.register_initializer(value)


def _nearly_zero_or_one(constant: ir.Value) -> ir.TensorProtocol | None:
    """The scalar that a value is, if it is close to zero or one and neither."""
    number = ir.convenience.get_const_tensor(constant)
    if number is None or len(number.shape) or not number.dtype.is_floating_point():
        return None
    distances = abs(float(number.numpy()) - np.array([0.0, 1.0]))
    return number if 0 < distances.min() < NEARLY else None


def _draws(model: nn.Module, inputs: Inputs) -> bool:
    """Whether the outputs of a network in evaluation mode depend on the random seed."""
    outputs = []
    for seed in (0, 1):
        work = copy_of(model)  # as some remember things between calls
        with evaluating(work):
            outputs.append(run(work, inputs, seed=seed))
    return difference(*outputs) > 0


def feed_of(session: Any, inputs: Inputs) -> dict[str, Any]:
    """Example inputs by the names the exported graph gave them."""
    _, kwargs = inputs
    tensors = [v for v in input_leaves(inputs) if isinstance(v, torch.Tensor)]
    names = [i.name for i in session.get_inputs()]
    named = {k: v for k, v in kwargs.items() if isinstance(v, torch.Tensor)}
    if named.keys() >= set(names):
        return {n: named[n].numpy(force=True) for n in names}
    if len(names) != len(tensors):
        raise AutopruneError(
            f"the exported graph has {len(names)} inputs, the example {len(tensors)} tensors",
            hint="inputs that the model ignores cannot be exported; leave them out",
        )
    return {n: v.numpy(force=True) for n, v in zip(names, tensors, strict=True)}
