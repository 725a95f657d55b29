"""The module and the line of code that a node of an ONNX file was exported from."""

from __future__ import annotations

import re

import onnx

from autoprune.frameworks.origin import nested_paths, user_line

SCOPES = "pkg.torch.onnx.name_scopes"
STACK = "pkg.torch.onnx.stack_trace"

_NAME = re.compile(r"'([^']*)'")
_NAMES = re.compile(r"\['[^']*'(, '[^']*')*\]")
"""A list of names as Python prints it."""


def modules_of(node: onnx.NodeProto) -> tuple[str, ...]:
    """Paths of the modules around a node, outermost first.

    Newer exporters of torch write them into the node's metadata; most others name nodes by them,
    as in `/layer1/layer1.0/conv/Conv`.
    """
    scopes = _metadata(node).get(SCOPES, "")
    names = _NAME.findall(scopes) if _NAMES.fullmatch(scopes) else node.name.split("/")
    return nested_paths([name for name in names[:-1] if name])


def source_of(node: onnx.NodeProto) -> str:
    """The line of the user's code, or else the name of the node in the file."""
    named = f"node {node.name}" if node.name else ""
    return user_line(_metadata(node).get(STACK, "")) or named


def _metadata(node: onnx.NodeProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in node.metadata_props}
