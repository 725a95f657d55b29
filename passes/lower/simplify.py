"""What ONNX Runtime does to a model before anything is matched in it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxruntime


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model after ONNX Runtime folded constants and normalization into it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        simple = _bare(onnx.load(path))
    # ONNX Runtime gives constants the names it gave when it folded them the first time, and then
    # finds them taken.
    fixed = {value.name for value in (*simple.graph.input, *simple.graph.output)}
    constants = [tensor for tensor in simple.graph.initializer if tensor.name not in fixed]
    names = {tensor.name: f"{tensor.name}.constant" for tensor in constants}
    for tensor in constants:
        tensor.name = names[tensor.name]
    _rename_inputs(simple.graph, names)
    return simple


def _rename_inputs(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Let the nodes of a graph, and of the graphs in them, read values by other names."""
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rename_inputs(attribute.g, names)
    for value in graph.output:
        value.name = names.get(value.name, value.name)


def _bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without notes of its exporter, and without domains that it does not use.

    Source lines and other operators loaded into this process would make it another one every time.
    """
    for part in (model, model.graph, *model.graph.node, *model.graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for value in (*model.graph.input, *model.graph.output):
        value.ClearField("doc_string")
        value.ClearField("metadata_props")
    del model.graph.value_info[:]
    used = {node.domain or "ai.onnx" for node in model.graph.node} | {"ai.onnx"}
    imports = [entry for entry in model.opset_import if (entry.domain or "ai.onnx") in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    return model
