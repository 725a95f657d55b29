"""Functions that an ONNX model brings along, and names of operators."""

from __future__ import annotations

import onnx
from onnx import inliner

from autoprune.errors import TraceError, first_line
from autoprune.frameworks.onnx.large import fits_one_message
from autoprune.frameworks.onnx.limits import check_functions
from autoprune.ops.rule import find

STANDARD = ("", "ai.onnx")
"""Names of the domain of ONNX itself."""


def operator_name(domain: str, op_type: str) -> str:
    """How an operator is called in rules: `onnx.Conv`, `microsoft.Gelu`."""
    return f"{'onnx' if domain in STANDARD else domain.rsplit('.', 1)[-1]}.{op_type}"


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own, as far as they can be inlined.

    Those with a rule stay, and so do those of another opset and those of models of more than 2 GB,
    which the inliner does not take. To leave some alone, it wants a single opset for all.

    Raises:
        TraceError: if a function calls itself, or functions call each other too often.
    """
    check_functions(model)
    if not model.functions or not fits_one_message(model):
        return model
    ruled = [(f.domain, f.name) for f in model.functions if find(operator_name(f.domain, f.name))]
    if ruled and not _of_one_opset(model):
        return model
    try:
        if ruled:
            return inliner.inline_selected_functions(model, ruled, exclude=True)
        return inliner.inline_local_functions(model)
    except (RuntimeError, onnx.checker.ValidationError) as error:
        raise TraceError(
            f"its functions cannot be inlined: {first_line(error)}",
            where=f"function {model.functions[0].name}",
            hint="onnx.checker.check_model says what is wrong with them",
        ) from error


def _of_one_opset(model: onnx.ModelProto) -> bool:
    """Whether all functions use the operators of the same versions as the model does."""
    versions = {(o.domain, o.version) for o in model.opset_import}
    return all((o.domain, o.version) in versions for f in model.functions for o in f.opset_import)
