"""No model of an artifact may refer to another file."""

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import Descriptor
from onnx import TensorProto, helper

from autoprune.runtime import ArtifactError, Session
from autoprune.runtime.self_contained import (
    DATA_LOCATION,
    EXTERNAL_DATA,
    PATHS,
    check_self_contained,
)
from tests.runtime.artifacts import dense_contents, network


def external(location: str = "weights.bin") -> TensorProto:
    tensor = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def graph_of(*nodes, initializers=(), sparse=()):
    x, y = (helper.make_tensor_value_info(name, 1, [4]) for name in "xy")
    return helper.make_graph(nodes, "g", [x], [y], initializers, sparse_initializer=sparse)


def nested(tensor, depth):
    node = helper.make_node("Constant", [], ["w"], value=tensor)
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["w"], then_branch=graph_of(node))
    return helper.make_model(graph_of(node))


def in_function(tensor):
    node = helper.make_node("Constant", [], ["w"], value=tensor)
    function = helper.make_function("d", "f", [], ["w"], [node], [helper.make_opsetid("", 17)])
    return helper.make_model(graph_of(), functions=[function])


def in_sparse(tensor):
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("v", 1, [1], [1.0]), helper.make_tensor("i", 7, [1], [0]), [4]
    )
    sparse.values.CopyFrom(tensor)
    return helper.make_model(graph_of(sparse=[sparse]))


def in_list(tensor):
    node = helper.make_node("Any", [], ["w"])
    node.attribute.add(name="a", type=onnx.AttributeProto.TENSORS, tensors=[tensor])
    return helper.make_model(graph_of(node))


PLACES = {
    "initializer": lambda t: helper.make_model(graph_of(initializers=[t])),
    "constant": lambda t: nested(t, 0),
    "subgraph": lambda t: nested(t, 3),
    "deep subgraph": lambda t: nested(t, 20),
    "function": in_function,
    "sparse": in_sparse,
    "list": in_list,
}


@pytest.mark.parametrize("place", PLACES)
def test_external_tensor_is_found_wherever_it_is(place):
    inside = helper.make_tensor("w", 1, [4], [1.0, 2, 3, 4])
    check_self_contained(PLACES[place](inside).SerializeToString(), "m")
    with pytest.raises(ArtifactError, match=r"outside the artifact\n  where: m"):
        check_self_contained(PLACES[place](external()).SerializeToString(), "m")


@pytest.mark.parametrize("half", ["data_location", "external_data"])
def test_half_a_reference_is_one(half):
    tensor = external()
    tensor.ClearField(half)
    with pytest.raises(ArtifactError, match="outside the artifact"):
        check_self_contained(PLACES["initializer"](tensor).SerializeToString(), "m")


def test_all_ways_to_a_tensor_are_known():
    expected = {}

    def reaches_tensor(message: Descriptor, seen: frozenset[str]) -> bool:
        return message.name == "TensorProto" or any(
            field.message_type.name not in seen
            and reaches_tensor(field.message_type, seen | {message.name})
            for field in message.fields
            if field.message_type
        )

    def collect(message: Descriptor) -> None:
        if message.name in expected or message.name == "TensorProto":
            return
        expected[message.name] = {}
        for field in message.fields:
            if field.message_type and reaches_tensor(field.message_type, frozenset()):
                expected[message.name][field.number] = field.message_type.name
                collect(field.message_type)

    collect(onnx.ModelProto.DESCRIPTOR)
    assert {**expected, "TensorProto": {}} == PATHS
    fields = TensorProto.DESCRIPTOR.fields_by_name
    assert fields["external_data"].number == EXTERNAL_DATA
    assert fields["data_location"].number == DATA_LOCATION


@pytest.mark.parametrize(
    "model",
    [
        network("standard")[:-1],
        b"ORTM" * 4,
        b"\x0b" + network("standard"),
        b"\xba\x80\x80\x80\x40\x00" + network("standard"),
    ],
    ids=["truncated", "other format", "group", "key beyond 32 bits"],
)
def test_what_is_no_model(model):
    with pytest.raises(ArtifactError, match="no ONNX model"):
        check_self_contained(model, "m")


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "*/_ORT_MEM_ADDR_/*"])
def test_session_follows_no_reference(save, tmp_path, monkeypatch, location):
    np.ones(4, np.float32).tofile(tmp_path / "weights.bin")
    monkeypatch.chdir(tmp_path)
    node = helper.make_node("Add", ["x", "w"], ["y"])
    model = helper.make_model(graph_of(node, initializers=[external(location)]))
    # The writer refuses it, too.
    monkeypatch.setattr("autoprune.passes.lower.artifact.check_self_contained", lambda *_: None)
    path, _ = save(dense_contents(), dense=model.SerializeToString())
    with pytest.raises(ArtifactError, match="outside the artifact"):
        Session(path)
