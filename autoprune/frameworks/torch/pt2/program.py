"""The program: what torch is given of it, after all of it was checked.

torch resolves names in it as operators and types, evaluates texts as sizes, and writes other names
into Python source. So every text has to be what its entry is for; an entry that is not known here,
or that nothing needs, is not passed on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from autoprune.frameworks.torch.pt2.operators import is_known
from autoprune.frameworks.torch.pt2.records import Refused
from autoprune.frameworks.torch.pt2.sizes import is_size, is_symbol

_PATH = re.compile(r"[^\"'\\\x00-\x1f\x7f]*")
_NUMBERS = frozenset({"Infinity", "-Infinity", "NaN"})
_CONTAINERS = frozenset(
    {
        None, "builtins.tuple", "builtins.list", "builtins.dict", "builtins.NoneType",
        "collections.OrderedDict", "collections.namedtuple", "collections.deque",
        "torch.fx.immutable_collections.immutable_list",
        "torch.fx.immutable_collections.immutable_dict",
    }
)  # fmt: skip
"""Types that torch makes of what stands beside them without importing or calling anything."""


def checked_program(data: bytes) -> bytes:
    """A serialized program, without what loading it does not need.

    Raises:
        Refused: if it holds an operator that is not known, or a text that is not what it is for.
    """
    program = json.loads(data)
    module = program["graph_module"]
    if not all(is_symbol(name) for name in program["range_constraints"]):
        raise Refused("a range of something that is no size")
    roots = [entry for entry in module["module_call_graph"] if entry["fqn"] == ""]
    _check_structure(roots[0]["signature"]["in_spec"], are_arguments=True)
    _check_structure(roots[0]["signature"]["out_spec"])
    needed = {
        **{
            name: program[name] for name in ("opset_version", "range_constraints", "schema_version")
        },
        "verifiers": program.get("verifiers", []),
        "torch_version": program.get("torch_version", ""),
        "graph_module": {
            "graph": module["graph"],
            "signature": module["signature"],
            "module_call_graph": roots[:1],
        },
    }
    return json.dumps(_checked(needed)).encode()


def _checked(part: Any, key: str = "") -> Any:
    """A part of a program with each text in it checked by the key that it stands under."""
    if isinstance(part, dict):
        if key == "metadata":
            return {k: str(v) for k, v in part.items() if k in ("stack_trace", "nn_module_stack")}
        return {name: _checked(value, name) for name, value in part.items()}
    if isinstance(part, list):
        return [_checked(value, key) for value in part]
    if isinstance(part, str):
        if key not in _TEXTS:
            raise Refused(f"the entry {key!r} with the text {_short(part)}")
        what, allows = _TEXTS[key]
        if not allows(part):
            raise Refused(f"{what} {_short(part)}")
    return part


def _is_name(text: str) -> bool:
    return text == "" or (text.isidentifier() and not text.startswith("__"))


def _is_path(text: str) -> bool:
    inside = not any(part.startswith("__") for part in text.split("."))
    return inside and _PATH.fullmatch(text) is not None


def _anything(_: str) -> bool:
    return True


_OPERATOR = ("a call of", is_known)
_NAME = ("the name", _is_name)
_MODULE_PATH = ("the name", _is_path)
_WORD = ("the word", re.compile(r"[\w.+-]*").fullmatch)
_NUMBER = ("the number", _NUMBERS.__contains__)
_TEXTS: dict[str, tuple[str, Callable[[str], object]]] = {
    **dict.fromkeys(("target", "as_operator"), _OPERATOR),
    **dict.fromkeys(("name", "as_name", "user_input_name", "forward_arg_names"), _NAME),
    **dict.fromkeys(("parameter_name", "buffer_name", "tensor_constant_name", "fqn"), _MODULE_PATH),
    **dict.fromkeys(("type", "verifiers", "torch_version"), _WORD),
    **dict.fromkeys(("as_float", "as_floats", "as_float_lists", "real", "imag"), _NUMBER),
    **dict.fromkeys(("as_string", "as_strings"), ("the text", _anything)),
    **dict.fromkeys(("in_spec", "out_spec"), ("the structure", _anything)),
    "expr_str": ("the expression", is_size),
}
"""For each key that a text may stand under: what the text is, and whether it may be that."""


def _check_structure(text: str, *, are_arguments: bool = False) -> None:
    """Check the containers of inputs or outputs; the names of arguments become Python source."""
    structure = json.loads(text)[1]
    if are_arguments:
        for part in structure["children_spec"][1:2]:
            names = json.loads(part["context"] or "null") if part["type"] == "builtins.dict" else []
            if not all(isinstance(name, str) and _is_name(name) for name in names or []):
                raise Refused(f"the names of arguments {_short(str(names))}")
    _check_containers(structure)


def _check_containers(structure: Any) -> None:
    kind = structure["type"]
    if kind not in _CONTAINERS and not _is_plain(kind):
        raise Refused(f"an object of type {_short(str(kind))}")
    context = structure["context"]
    if context is not None and kind != "collections.namedtuple":
        context = json.loads(context)
    if _mentions_objects(context):
        raise Refused(f"an object {_short(str(context))}")
    for child in structure["children_spec"]:
        _check_containers(child)


def _is_plain(kind: Any) -> bool:
    """Whether a library that is loaded already made a type known, without code for its context."""
    from torch.utils import _pytree as pytree

    known = pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE.get(kind)
    if known is None:
        return False
    return pytree.SUPPORTED_SERIALIZED_TYPES[known].from_dumpable_context is None


def _mentions_objects(context: Any) -> bool:
    """Whether a context has members of enumerations, whose modules would be imported."""
    if isinstance(context, dict):
        return "__enum__" in context or any(map(_mentions_objects, context.values()))
    return isinstance(context, list) and any(map(_mentions_objects, context))


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")
