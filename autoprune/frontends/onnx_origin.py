"""The module and the line of code that a node of an ONNX file was exported from."""

from __future__ import annotations

import ast

import onnx

from autoprune.frontends.origin import nested_paths, user_line

SCOPES = "pkg.torch.onnx.name_scopes"
STACK = "pkg.torch.onnx.stack_trace"


def modules_of(node: onnx.NodeProto) -> tuple[str, ...]:
    """Paths of the modules around a node, outermost first.

    Newer exporters of torch write them into the node's metadata; most others name nodes by them,
    as in `/layer1/layer1.0/conv/Conv`.
    """
    scopes = _metadata(node).get(SCOPES, "")
    try:
        found = ast.literal_eval(scopes) if scopes else None
    except (SyntaxError, ValueError):
        found = None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        found = node.name.split("/")
    return nested_paths([name for name in found[:-1] if name])


def source_of(node: onnx.NodeProto) -> str:
    """The line of the user's code, or else the name of the node in the file."""
    named = f"node {node.name}" if node.name else ""
    return user_line(_metadata(node).get(STACK, "")) or named


def _metadata(node: onnx.NodeProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in node.metadata_props}
