"""`--input`, and `.pt2` files that hold more than data."""

import io
import json
import pickle
import zipfile

import pytest
import torch
from torch import nn

from autoprune.errors import AutopruneError, TraceError
from autoprune.input_specs import InputSpec, parse_input
from autoprune.loading import make_inputs
from autoprune.pt2 import load_pt2


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("1x3x224x224", InputSpec((1, 3, 224, 224))),
        ("7", InputSpec((7,))),
        ("ids=1x128:int64", InputSpec((1, 128), "int64", "ids")),
        ("ids=1x128:int64:30522", InputSpec((1, 128), "int64", "ids", 30522)),
        ("2x2:bool", InputSpec((2, 2), "bool")),
        (" 2x2:float16 ", InputSpec((2, 2), "float16")),
    ],
)
def test_parse_input(text, spec):
    assert parse_input(text) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1x",
        "1x0",
        "1x-3",
        "1.5x2",
        "²x3",
        "=1x3",
        "a=b=1",
        "a b=1x3",
        "1x3:float",
        "1x3:float32:9",
        "1:int64:",
        "1:int64:0",
        "1:int64:5:6",
    ],
)
def test_wrong_input(text):
    with pytest.raises(AutopruneError, match="what to do: write 1x3x224x224"):
        parse_input(text)


def test_inputs_are_valid_and_repeatable():
    specs = [parse_input("ids=4x50:int64:9"), parse_input("mask=4x50:bool")]
    first, second = make_inputs(specs), make_inputs(specs)
    assert list(first) == ["ids", "mask"]
    assert first["ids"].dtype == torch.int64
    assert set(first["ids"].flatten().tolist()) == set(range(9))
    assert first["mask"].all()
    assert all(first[n].equal(second[n]) for n in first)
    assert set(make_inputs([parse_input("99:int32")])[0].tolist()) == {0, 1}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x, scale=None):
        y = self.fc(x).view(x.shape[0] * 3).view(x.shape[0], 3)
        return y if scale is None else y * scale


@pytest.fixture
def saved(tmp_path):
    """A function that exports a network to a file, after changing the files in the archive."""

    def save(change=lambda name, data: data, **options):
        buffer = io.BytesIO()
        program = torch.export.export(Net().eval(), (torch.ones(2, 4),), **options)
        torch.export.save(program, buffer)
        path = tmp_path / "net.pt2"
        with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                new.writestr(name, change(name, old.read(name)))
        return path

    return save


def edit(suffix, old, new):
    def change(name, data):
        if name.endswith(suffix):
            assert old.encode() in data
            return data.replace(old.encode(), new.encode())
        return data

    return change


def test_a_program_keeps_its_inputs(saved):
    module, example = load_pt2(saved())
    assert module(*example).shape == (2, 3)
    assert not module.training
    module, example = load_pt2(saved(kwargs={"scale": torch.ones(3)}))
    assert list(example) == ["x", "scale"]
    assert module(**example).shape == (2, 3)


def test_sizes_that_vary(saved):
    module, _ = load_pt2(saved(dynamic_shapes=({0: torch.export.Dim("batch")},)))
    assert module(torch.ones(5, 4)).shape == (5, 3)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def pickled(suffix):
    buffer = io.BytesIO()
    torch.save(({"x": Bomb()}, {}), buffer)
    return lambda name, data: buffer.getvalue() if name.endswith(suffix) else data


def test_pickled_example_inputs_are_refused(saved):
    with pytest.raises(TraceError, match=r"objects in them \(Weights only load failed\)"):
        load_pt2(saved(pickled("sample_inputs/model.pt")))


def test_a_pickled_weight_is_refused(saved):
    def change(name, data):
        if name.endswith("weights_config.json"):
            return data.replace(b'"use_pickle": false', b'"use_pickle": true')
        return pickled("weight_0")(name, data)

    with pytest.raises(TraceError, match="pickled object"):
        load_pt2(saved(change))


def test_a_pickled_constant_is_refused(saved):
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}
    config = json.dumps({"config": {"c": entry | {"tensor_meta": None}}}).encode()

    def change(name, data):
        if name.endswith("constants_config.json"):
            return config
        return data

    path = saved(change)
    with zipfile.ZipFile(path, "a") as archive:
        root = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{root}/data/constants/opaque_obj_0", pickle.dumps(Bomb()))
    with pytest.raises(TraceError, match="pickled object"):
        load_pt2(path)


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.hub.load",
        "torch.ops.load_library",
        "builtins.exec",
        "torch.ops.__class__.x",
        "_operator.methodcaller",
        "torch.ops.aten.__getattr__",
    ],
)
def test_a_call_of_a_function_is_refused(saved, target):
    change = edit("models/model.json", "torch.ops.aten.linear.default", target)
    with pytest.raises(TraceError, match="holds a call of"):
        load_pt2(saved(change))


@pytest.mark.parametrize(
    "text",
    ["__import__('os').getcwd()", "(1).__class__", "exec('x=1')", "[c for c in ()]", "eval('s0')"],
)
def test_an_expression_that_is_no_size_is_refused(saved, text):
    def change(name, data):
        if not name.endswith("models/model.json"):
            return data
        tree = json.loads(data)
        assert replace(tree)
        return json.dumps(tree).encode()

    def replace(part):
        values = part.values() if isinstance(part, dict) else part
        if isinstance(part, dict) and isinstance(part.get("expr_str"), str):
            part["expr_str"] = text
            return True
        return any(replace(v) for v in values if isinstance(v, dict | list))

    path = saved(change, dynamic_shapes=({0: torch.export.Dim("batch")},))
    with pytest.raises(TraceError, match="holds the expression"):
        load_pt2(path)


def test_compiled_code_is_refused(saved):
    path = saved()
    with zipfile.ZipFile(path, "a") as archive:
        root = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{root}/data/aotinductor/model/x.so", b"\x7fELF")
    with pytest.raises(TraceError, match="compiled code"):
        load_pt2(path)


def test_a_program_exported_for_training_is_refused(tmp_path):
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).train()
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net, (torch.ones(2, 4),)), path)
    with pytest.raises(TraceError, match="training mode"):
        load_pt2(path)


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_a_truncated_file(saved, keep):
    path = saved()
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(TraceError, match="not an exported program"):
        load_pt2(path)
