"""Everything in an ONNX model, wherever it stands: in subgraphs, in functions, in attributes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import onnx

from autoprune.errors import TraceError

DEEPEST = 32
"""Subgraphs within each other; protobuf itself reads about as many."""

Proto = TypeVar("Proto")


def subgraphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in an attribute."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def messages(kind: type[Proto], *within: Any) -> Iterator[Proto]:
    """Every message of a kind within others, themselves included.

    Raises:
        TraceError: if graphs are nested too deeply.
    """
    return (message for message in _all(within) if isinstance(message, kind))


def texts_of(model: onnx.ModelProto) -> Iterator[tuple[str, str | bytes]]:
    """Every text in a model after the name of its field; bytes where it is no valid text."""
    for message in _all((model,)):
        for field, value in message.ListFields():
            if field.type == field.TYPE_STRING:
                for text in (value,) if isinstance(value, str | bytes) else value:
                    yield field.name, text


def _all(within: Iterable[Any]) -> Iterator[Any]:
    waiting = [(message, 0) for message in within]
    while waiting:
        found, depth = waiting.pop()
        if isinstance(found, onnx.GraphProto):
            depth += 1
            if depth > DEEPEST + 1:
                raise TraceError(
                    f"more than {DEEPEST} subgraphs are nested within each other",
                    where=f"graph {found.name:.80}",
                )
        yield found
        for field, value in found.ListFields():
            if field.type == field.TYPE_MESSAGE:
                inner = (value,) if hasattr(value, "ListFields") else value
                waiting.extend((message, depth) for message in inner)
