"""Why a model does not run, or runs and cannot be exported; and what to do about each.

Torch says what happened inside itself. The first cause whose words occur in its message is told
with the line of the user's code.
"""

from __future__ import annotations

import inspect
import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from autoprune.errors import TraceError


@dataclass(frozen=True)
class Cause:
    """One thing that goes wrong.

    Attributes:
        words: a regular expression; what its group matches may stand in the other texts.
        what: what the model does.
        hint: what to do.
    """

    words: str
    what: str
    hint: str


NOT_EXPORTED = (
    Cause(
        r"structure of `inputs` and `dynamic_shapes`|`dynamic_shapes` is specified",
        "dynamic_shapes does not fit the arguments of forward",
        'give it one entry an argument, by name or in their order, or pass "batch"',
    ),
    Cause(
        r"fake tensor in the exported program",
        "the forward takes a tensor out of what is traced, as `.data` or torch.tensor(...) do",
        "use .detach() in place of .data, and torch.stack in place of torch.tensor([...])",
    ),
    Cause(
        r"(?i)constraints violated|dynamic (?:shape|dim)|ConstraintViolation|specialized",
        "a dimension that is to be dynamic is fixed by the forward",
        "leave out dynamic_shapes (--dynamic-batch), or use sizes of the input in the forward in "
        "place of numbers; a dimension of size 1 is always fixed: give a batch of 2 or more",
    ),
    Cause(
        r"`dynamic_shapes",
        "dynamic_shapes does not fit the inputs",
        "give it the structure of the inputs, with a dict for each tensor from axes to "
        'torch.export.Dim.DYNAMIC or Dim("name"), or leave it out',
    ),
    Cause(
        r"GuardOnDataDependent|data-dependent|DataDependent",
        "a branch, a loop or a size depends on the values of tensors",
        "compute both and choose with torch.where, or take the number from shapes or attributes; "
        "or pass the part of the model that does not do this",
    ),
    Cause(
        r"(?i)numpy",
        "the forward leaves torch for numpy",
        "compute it with torch, or before the forward; or pass the part of the model without it",
    ),
    Cause(
        r"no fake impl registered for <CustomOpDef\((.*?)\)>|(?i:fake impl|meta kernel)",
        "a custom operator does not say what shape its result has",
        "give it a fake implementation: torch.library.register_fake({0!r})",
    ),
    Cause(
        r"a leaf Variable that requires grad|a view of a leaf Variable",
        "the forward writes to a parameter in place",
        "keep what changes in a buffer (register_buffer), or write outside the forward",
    ),
    Cause(
        r"(?i)inference tensor|inference mode",
        "the model or its inputs were made under torch.inference_mode, which fixes them",
        "make them outside of it; torch.no_grad() does no harm",
    ),
    Cause(
        r"(?i)functorch|vmap|torch\.func",
        "the forward transforms functions (torch.func)",
        "pass the network that is transformed, and put it back where it is called from",
    ),
    Cause(
        r"not a known type|Unsupported input type|input type .* not supported|pytree",
        "an input or an output is of a type that torch.export does not know",
        "pass tensors, numbers, and tuples, lists or dicts of them, or register the type with "
        "torch.utils._pytree.register_pytree_node",
    ),
    Cause(
        r"(?i)different device|same device|expected device",
        "tensors are on different devices",
        "make tensors in the forward on the device of its inputs: device=x.device",
    ),
    Cause(
        r"(?i)torch\.compile|dynamo|Unsupported:",
        "the forward does what torch cannot trace",
        "simplify the line named above, or pass the part of the model without it",
    ),
)
"""What stops the export of a model that runs."""

DIFFERENTIATES = Cause(
    "", "the forward differentiates with torch.autograd",
    "pass the network that is differentiated, and put it back where it is called from",
)  # fmt: skip

NOT_RUN = (
    Cause(
        r"missing \d+ required (?:positional|keyword)|positional arguments? but|unexpected keyword|"
        r"multiple values for argument|missing a required argument|too many positional",
        "the example inputs are not what forward takes",
        "forward takes {signature}; a tuple or list holds positional arguments, a dict keyword "
        "arguments, and a list that is one argument goes into a tuple: ([a, b],)",
    ),
    Cause(
        r"(?i)not compiled with CUDA|No CUDA GPUs|no NVIDIA driver|not linked with|no MPS",
        "the forward moves tensors to a device that is not there",
        "make tensors in the forward on the device of its inputs: device=x.device",
    ),
    Cause(
        r"(?i)expected device|same device|on device meta|different devices|type \(torch\.cuda",
        "the model and the example inputs are on different devices",
        "move the inputs to where the model is; {given}",
    ),
    Cause(
        r"(?i)numpy\.ndarray|not (?:a )?(?:list|str|float|int)\b|non-Tensor",
        "an example input is no tensor",
        "make tensors of arrays and lists: torch.from_numpy(array), torch.tensor(list)",
    ),
    Cause(
        r"NoneType",
        "None stands where the forward needs a tensor",
        "give all inputs that the forward uses; {given}",
    ),
    Cause(
        r"(?i)dtype|scalar type|expected .*(?:Long|Int|Half|BFloat16|Float|Double)\b|bias type",
        "the example inputs have another dtype than the model works with",
        "indices are torch.long, the rest has the dtype of the weights; {given}",
    ),
    Cause(
        r"(?i)shape|size|channels|dimension|broadcast|index out of range|out of bounds",
        "the example inputs have sizes that the model does not take",
        "call model(...) with inputs of these sizes until it works; {given}",
    ),
)
"""What stops a model from running on the example inputs."""

UNKNOWN_RUN = Cause(
    "", "", "call model(...) with these inputs until it works; a tuple holds positional and a dict "
    "keyword arguments",
)  # fmt: skip
UNKNOWN_EXPORT = Cause(
    "", "", "torch.export must be able to trace the forward; pass the part of the model that it "
    "can trace, or rewrite the line named above",
)  # fmt: skip


def does_not_run(error: BaseException, model: nn.Module, inputs: Any) -> TraceError:
    """The error of a model that does not run on the example inputs.

    Args:
        error: what was raised.
        model: the model.
        inputs: positional and keyword arguments.
    """
    cause = _find(NOT_RUN, error) or UNKNOWN_RUN
    return TraceError(
        _told("the model does not run on the example inputs", cause, error),
        where=user_line(error),
        hint=cause.hint.format(signature=_signature(model), given=_given(model, inputs)),
    )


def cannot_be_exported(error: BaseException, without_gradients: Exception | None) -> TraceError:
    """The error of a model that runs but cannot be exported.

    Args:
        error: what was raised.
        without_gradients: what the model raises where no gradients are computed, if anything.
    """
    cause = _find(NOT_EXPORTED, error) or UNKNOWN_EXPORT
    if without_gradients is not None:
        cause, error = DIFFERENTIATES, without_gradients
    found = re.search(cause.words, _text(error))
    name = (found and found.lastindex and found[1]) or "mylib::my_operator"
    return TraceError(
        _told("the model runs but cannot be exported", cause, error),
        where=user_line(error),
        hint=cause.hint.format(name),
    )


def is_mismatch(error: BaseException) -> bool:
    """Whether inputs and weights have different dtypes, or are on different devices."""
    return re.search(r"(?i)dtype|scalar type|same device|expected device", str(error)) is not None


def _find(causes: tuple[Cause, ...], error: BaseException) -> Cause | None:
    return next((c for c in causes if re.search(c.words, _text(error))), None)


def _told(what: str, cause: Cause, error: BaseException) -> str:
    return f"{what}: {f'{cause.what} ({summary(error)})' if cause.what else summary(error)}"


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def summary(error: BaseException) -> str:
    """The error's type and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else '':.300}".rstrip(": ")


def user_line(error: BaseException) -> str | None:
    """The innermost frame of the error that is neither torch's nor ours."""
    ours, theirs = Path(__file__).parents[2], Path(torch.__file__).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        generated = frame.filename.startswith("<")
        if not (generated or path.is_relative_to(ours) or path.is_relative_to(theirs)):
            return f"{frame.filename}:{frame.lineno}: {frame.line}"
    return None


def _signature(model: nn.Module) -> str:
    return f"({', '.join(map(str, inspect.signature(model.forward).parameters.values()))})"


def _given(model: nn.Module, inputs: Any) -> str:
    """Shapes, dtypes and devices of the inputs, and of the weights."""
    leaves = pytree.tree_leaves(tuple(inputs))
    given = ", ".join(_described(leaf) for leaf in leaves) or "nothing"
    weight = next(model.parameters(), None)
    where = "" if weight is None else f"; weights are {weight.dtype} on {weight.device}"
    return f"given were {given}{where}"


def _described(leaf: Any) -> str:
    if isinstance(leaf, torch.Tensor):
        return f"{tuple(leaf.shape)} {leaf.dtype} on {leaf.device}"
    return type(leaf).__name__
