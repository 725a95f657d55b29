"""The plan that a pruned ONNX model carries along, so that pruning it once more composes.

It stands in the model's metadata, beside a digest of the nodes and tensors that the model had:
whoever changes those afterwards has another model, of which the plan says nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib

import onnx
from onnx import helper

from autoprune.errors import PlanError
from autoprune.ir.plan import LARGEST, Plan

_PLAN, _STRUCTURE = "autoprune.plan", "autoprune.structure"


def carry(model: onnx.ModelProto, plan: Plan) -> None:
    """Note in a pruned model the plan that made it."""
    notes = {_PLAN: _packed(plan), _STRUCTURE: _structure(model)}
    helper.set_model_props(model, {**_notes(model), **notes})


def carried_plan(model: onnx.ModelProto) -> Plan | None:
    """The plan that made the model, if it was pruned and its nodes are what they were then.

    Raises:
        PlanError: if the plan was damaged.
    """
    notes = _notes(model)
    return _unpacked(notes[_PLAN]) if _PLAN in notes and not was_changed(model) else None


def was_changed(model: onnx.ModelProto) -> bool:
    """Whether the model was pruned, and its nodes or the shapes of its tensors changed since."""
    notes = _notes(model)
    return _PLAN in notes and notes.get(_STRUCTURE) != _structure(model)


def _notes(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _packed(plan: Plan) -> str:
    """A plan as short text: it lists every unit that stays."""
    return base64.b64encode(zlib.compress(plan.to_json().encode(), 9)).decode()


def _unpacked(text: str) -> Plan:
    try:
        inflate = zlib.decompressobj()
        data = inflate.decompress(base64.b64decode(text, validate=True), LARGEST)
        if not inflate.eof:
            raise ValueError("it is cut off, or too long")
        return Plan.from_json(data.decode())
    except (ValueError, binascii.Error, zlib.error) as error:
        raise PlanError(
            f"the plan in the model's metadata cannot be read: {error}",
            where=f"metadata {_PLAN}",
            hint="remove that entry, to go on without what was done before",
        ) from error


def _structure(model: onnx.ModelProto) -> str:
    graph = model.graph
    nodes = [[n.domain, n.op_type, list(n.input), list(n.output)] for n in graph.node]
    tensors = sorted((t.name, list(t.dims)) for t in graph.initializer)
    outputs = [value.name for value in graph.output]
    return hashlib.sha256(json.dumps([nodes, tensors, outputs]).encode()).hexdigest()
