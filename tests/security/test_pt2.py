"""Hostile `.pt2` files: refused before anything of them runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import autoprune as ap
from autoprune.cli import main
from autoprune.errors import TraceError
from autoprune.ops.rule import find, forget
from autoprune.pt2 import load_pt2
from autoprune.pt2.operators import is_known
from autoprune.pt2.sizes import is_size
from tests.security.programs import (
    CONSTANTS,
    EXAMPLE,
    MODEL,
    WEIGHTS,
    editing,
    exported,
    parts,
    setting,
    write,
)

OUTSIDE = {
    "files": "aten.from_file.default aten.save.default",
    "state of generators": "aten.manual_seed.default aten.seed.default",
    "state of torch": "aten.set_grad_enabled.default aten._cufft_set_plan_cache_max_size.default",
    "text on the terminal": "aten._print.default aten.warn.default higher_order.print",
    "memory": "aten.set_.source_Tensor aten.set_data.default aten.resize_.default",
    "streams": "aten.record_stream.default",
    "arguments called out": "aten.add.out aten.cat.out",
    "lists": "aten._foreach_add_.Scalar aten._foreach_mul.Scalar aten.append.t",
    "optimizers": "aten._fused_adam_.default aten._fused_sgd_.default",
    "gradients": "aten.convolution_backward.default aten.relu_backward.default",
    "other processes": "_c10d_functional.all_reduce.default c10d.allreduce_.default",
    "other libraries": "prims.copy_to.default quantized.linear.default mkldnn._linear_pointwise.x",
    "profiling": "profiler._record_function_enter_new.default",
    "compilers": "inductor.resize_storage_bytes_.default higher_order.run_const_graph",
    "kernels": "higher_order.triton_kernel_wrapper_mutation",
    "effects": "higher_order.with_effects higher_order.call_torchbind",
    "no overload": "aten.linear aten add.Tensor load_library",
    "attributes": "aten.add.__class__ aten.__getattr__.x __class__.x aten.linear.default.__call__",
    "TorchScript's": "aten.add.str aten.format.default prim.Print.default",
}
FUNCTIONS = """
    torch.os.system torch.hub.load torch.save torch.load torch.manual_seed torch.set_num_threads
    torch.library.define torch.ops.load_library torch._C._set_grad_enabled torch.utils.data.os
    torch.distributed.all_reduce torch.ops.__class__.x torch.add torch.Tensor.tofile
    _operator.call _operator.methodcaller _operator.attrgetter _operator.setitem _operator.__call__
    math.factorial math.__class__ builtins.exec exec #namespace:operator #x
    torchvision.io.write_file
"""
TARGETS = [
    *(f"torch.ops.{name}" for names in OUTSIDE.values() for name in names.split()),
    *FUNCTIONS.split(),
]


def test_the_program_itself_is_read(tmp_path):
    module, example = load_pt2(write(tmp_path / "net.pt2"))
    assert list(example) == ["x", "scale"]
    assert not module.training
    expected = module(**example)
    assert module(torch.ones(5, 4), scale=torch.ones(3)).shape == (5, 3)
    theirs = torch.export.load(tmp_path / "net.pt2").module()
    torch.testing.assert_close(theirs(example["x"], scale=example["scale"]), expected)


@pytest.mark.parametrize("target", TARGETS)
def test_a_call_that_is_not_known_is_refused(tmp_path, target):
    assert not is_known(target)
    targets = [part["target"] for part in parts(json.loads(exported()[MODEL]), "target")]
    nested = targets.index("torch.ops.aten.linear.default")
    for which in (0, nested):
        path = write(tmp_path / "net.pt2", setting("target", target, which))
        with pytest.raises(TraceError, match="holds a call of"):
            load_pt2(path)


def test_a_function_as_an_argument_is_refused(tmp_path):
    path = write(tmp_path / "net.pt2", setting("arg", {"as_operator": "torch.os.system"}, 1))
    with pytest.raises(TraceError, match=r"holds a call of 'torch\.os\.system'"):
        load_pt2(path)


def registered() -> Iterator[tuple[str, list[Any]]]:
    """Every operator that is loaded, as a program names it, and its arguments."""
    for name in torch._C._dispatch_get_all_op_names():
        namespace, _, name = name.partition("::")
        packet, _, overload = name.partition(".")
        operator = getattr(getattr(getattr(torch.ops, namespace), packet), overload or "default")
        yield f"{namespace}.{packet}.{overload or 'default'}", operator._schema.arguments


def test_every_known_operator_of_torch_only_computes():
    """No files, streams, storages, generators' states or objects, and no `out`."""
    known = {name: args for name, args in registered() if is_known(f"torch.ops.{name}")}
    assert len(known) > 1000
    for name, arguments in known.items():
        namespaces = ("aten", "onnx", "quantized_decomposed", "torchvision")
        assert name.partition(".")[0] in namespaces
        kinds = " ".join(str(argument.type) for argument in arguments)
        assert not any(word in kinds for word in ("Storage", "Stream", "__torch__"))
        assert not {"filename", "out"} & {argument.name for argument in arguments}


def test_every_operator_of_aten_with_a_rule_is_known():
    for name, arguments in registered():
        if name.startswith("aten.") and find(name) and not any(
            argument.kwarg_only and argument.is_write for argument in arguments
        ):  # fmt: skip
            assert is_known(f"torch.ops.{name}"), name


@pytest.mark.parametrize(
    "name", ["torchvision.nms.default", "quantized_decomposed.quantize_per_tensor.default"]
)
def test_what_registers_an_operator_is_imported(name):
    code = f"from autoprune.pt2.operators import is_known; assert is_known('torch.ops.{name}')"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_operator_of_another_library_needs_a_rule(tmp_path):
    calls = []
    with torch.library._scoped_library("hostile", "FRAGMENT") as library:
        library.define("relu(Tensor x, *, str? text=None) -> Tensor")

        def run(x, *, text=None):
            calls.append(text)
            return x.relu()

        library.impl("relu", run, "CompositeImplicitAutograd")
        node = {
            "target": "torch.ops.hostile.relu.default",
            "inputs": [{"name": "x", "arg": {"as_tensor": {"name": "x"}}, "kind": 1}],
            "outputs": [{"as_tensor": {"name": "h"}}], "metadata": {}, "name": "h",
        }  # fmt: skip

        def edit(tree):
            graph = tree["graph_module"]["graph"]
            graph["nodes"].append(node)
            graph["tensor_values"]["h"] = graph["tensor_values"]["x"]

        path = write(tmp_path / "net.pt2", editing(MODEL, edit))
        with pytest.raises(TraceError, match=r"hostile\.relu.*\n.*\n.*ap\.rule"):
            load_pt2(path)
        ap.rule("hostile.relu", "... -> ...")
        try:
            load_pt2(path)
        finally:
            forget("hostile.relu")
    assert not calls


def test_inspecting_does_nothing_but_inspect(tmp_path, capsys):
    """A call that maps a file into memory, and one that writes to it."""
    victim = tmp_path / "victim"
    victim.write_text("precious")

    def edit(tree):
        graph = tree["graph_module"]["graph"]
        arguments = (
            ("filename", {"as_string": str(victim)}, 1), ("shared", {"as_bool": True}, 1),
            ("size", {"as_int": 8}, 1), ("dtype", {"as_scalar_type": 1}, 2),
        )  # fmt: skip
        graph["nodes"].append({
            "target": "torch.ops.aten.from_file.default",
            "inputs": [{"name": n, "arg": a, "kind": k} for n, a, k in arguments],
            "outputs": [{"as_tensor": {"name": "h"}}], "metadata": {}, "name": "h",
        })  # fmt: skip
        graph["tensor_values"]["h"] = graph["tensor_values"]["x"]

    path = write(tmp_path / "net.pt2", editing(MODEL, edit))
    assert main(["inspect", str(path)]) == 1
    assert "aten.from_file" in capsys.readouterr().err
    assert victim.read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["net.pt2", "victim"]


CODE = "x=open('{}', 'w')"


@pytest.mark.parametrize(
    "place",
    [
        lambda code: setting("name", code),
        lambda code: setting("name", code, 30),
        lambda code: setting("as_name", code),
        lambda code: setting("as_graph", {"name": code, "graph": {}}),
        lambda code: setting("forward_arg_names", [code, "scale"]),
        lambda code: setting("parameter_name", f'a"), {code}, ("'),
        lambda code: setting("in_spec", spec("builtins.dict", [code])),
        lambda code: setting("as_int", code),
        lambda code: setting("expr_str", code),
        lambda code: setting("parameter_name", "__class__"),
        lambda code: setting("name", "__builtins__"),
        lambda code: setting("name", "torch.load"),
    ],
)
def test_text_that_would_become_code_is_refused(tmp_path, place):
    flag = tmp_path / "flag"
    path = write(tmp_path / "net.pt2", place(CODE.format(flag)))
    with pytest.raises(TraceError, match="the file holds"):
        load_pt2(path)
    assert not flag.exists()


def spec(kind: str, context: object) -> str:
    """The structure of arguments, with a container in the place of the keyword arguments."""
    leaf = {"type": None, "context": None, "children_spec": []}
    inner = {"type": "builtins.tuple", "context": "null", "children_spec": [leaf]}
    given = context if kind == "collections.defaultdict" else json.dumps(context)
    outer = {"type": kind, "context": given, "children_spec": [leaf]}
    return json.dumps(
        [1, {"type": "builtins.tuple", "context": "null", "children_spec": [inner, outer]}]
    )


@pytest.mark.parametrize("where", ["in_spec", "out_spec"])
@pytest.mark.parametrize(
    ("kind", "context"),
    [
        (
            "collections.defaultdict",
            {
                "default_factory_module": "hostile_module",
                "default_factory_name": "x",
                "dict_context": ["scale"],
            },
        ),
        ("builtins.list", {"__enum__": True, "fqn": "hostile_module:X", "name": "A"}),
        ("builtins.dict", [{"__enum__": True, "fqn": "hostile_module:X", "name": "A"}]),
        ("hostile_module.Type", None),
    ],
)
def test_a_container_that_would_be_imported_is_refused(tmp_path, monkeypatch, where, kind, context):
    (tmp_path / "hostile_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    path = write(tmp_path / "net.pt2", setting(where, spec(kind, context)))
    with pytest.raises(TraceError, match=r"the file holds (an object|the names)"):
        load_pt2(path)


def test_what_is_not_needed_is_not_read(tmp_path):
    """Guards and the traces of functions would be evaluated or looked up."""

    def edit(tree):
        tree["guards_code"] = ["open('flag', 'w')"]
        for part in parts(tree, "metadata"):
            part["metadata"]["source_fn_stack"] = "x,torch.hub.load"
        tree["graph_module"]["module_call_graph"].append(
            {"fqn": "a", "signature": {"in_spec": "[9, 1]"}}
        )
        tree["later"] = "unknown"

    module, example = load_pt2(write(tmp_path / "net.pt2", editing(MODEL, edit)))
    assert module(**example).shape == (2, 3)


def pickled(value: object = None) -> bytes:
    buffer = io.BytesIO()
    torch.save(value or (({"x": Bomb()},), {}), buffer)
    return buffer.getvalue()


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def entry(members: dict[str, bytes], config: str, **changes: object) -> None:
    tree = json.loads(members[config])
    first = next(iter(tree["config"].values()), {"is_param": False, "tensor_meta": None})
    tree["config"]["c" if config == CONSTANTS else "fc.weight"] = {**first, **changes}
    members[config] = json.dumps(tree).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update({EXAMPLE: pickled()}), "objects in them"),
        (lambda m: m.update({"data/weights/model.pt": pickled()}), "pickled tensors"),
        (lambda m: m.update({"data/constants/model.pt": pickled()}), "pickled tensors"),
        (lambda m: m.update({"data/aotinductor/m/x.so": b"\x7fELF"}), "compiled code"),
        (lambda m: entry(m, WEIGHTS, use_pickle=True), "a pickled object"),
        (
            lambda m: [
                m.update({"data/constants/opaque_obj_0": pickle.dumps(Bomb())}),
                entry(m, CONSTANTS, path_name="opaque_obj_0", use_pickle=False),
            ],
            "a pickled object",
        ),
        (
            lambda m: entry(m, CONSTANTS, path_name="custom_obj_0", use_pickle=False),
            "a pickled object",
        ),
    ],
)
def test_pickles_and_code_are_refused(tmp_path, change, message):
    with pytest.raises(TraceError, match=message):
        load_pt2(write(tmp_path / "net.pt2", change))


def test_the_old_format_is_not_read(tmp_path):
    """It is all pickles; torch reads it where the new one fails."""

    def change(members):
        members.update({MODEL: b"{}", "version": b"8.9"})

    path = write(tmp_path / "net.pt2", change)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("version", b"8.9")
        archive.writestr("serialized_exported_program.json", exported()[MODEL])
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", pickled())
    with pytest.raises(TraceError):
        load_pt2(path)


def sized(*sizes: int) -> list[dict[str, int]]:
    return [{"as_int": size} for size in sizes]


def larger(members: dict[str, bytes]) -> None:
    """Weights of 2^44 numbers, which are all the same one."""

    def edit(tree):
        meta = tree["config"]["fc.weight"]["tensor_meta"]
        meta.update(sizes=sized(2**22, 2**22), strides=sized(0, 0))

    editing(WEIGHTS, edit)(members)


def laughing(members: dict[str, bytes]) -> None:
    """Example inputs in which lists of lists are repeated."""
    value: object = [torch.ones(1)]
    for _ in range(30):
        value = [value] * 10
    members[EXAMPLE] = pickled(((value,), {}))


def outside(members: dict[str, bytes]) -> None:
    def edit(tree):
        tree["config"]["fc.weight"]["tensor_meta"]["storage_offset"] = {"as_int": 10**6}

    editing(WEIGHTS, edit)(members)


def deep(members: dict[str, bytes]) -> None:
    members[MODEL] = b'{"graph_module":' + b"[" * 10**6


@pytest.mark.parametrize("change", [larger, laughing, outside, deep])
def test_little_data_that_would_become_much_is_refused(tmp_path, change):
    with pytest.raises(TraceError):
        load_pt2(write(tmp_path / "net.pt2", change))


def test_a_compressed_archive_is_refused(tmp_path):
    path = write(tmp_path / "net.pt2", compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(TraceError, match="compressed"):
        load_pt2(path)


def test_members_that_overlap_are_refused(tmp_path):
    """The directory names one member many times: a megabyte of file, many of data."""
    path = write(tmp_path / "net.pt2", lambda m: m.update({"big": bytes(10**5)}))
    with zipfile.ZipFile(path, "a") as archive:
        big = archive.getinfo("archive/big")
        for number in range(100):
            copy = zipfile.ZipInfo(f"archive/big{number}")
            copy.header_offset, copy.CRC = big.header_offset, big.CRC
            copy.file_size = copy.compress_size = big.file_size
            archive.filelist.append(copy)
        archive._didModify = True
    with pytest.raises(TraceError, match="overlap"):
        load_pt2(path)


@pytest.mark.parametrize("size", ["u99999999", "s0 or 1", "x.y"])
def test_a_range_of_no_size_is_refused(tmp_path, size):
    """torch counts up to the number in the name."""

    def edit(tree):
        tree["range_constraints"][size] = {"min_val": 0, "max_val": None}

    with pytest.raises(TraceError, match="range"):
        load_pt2(write(tmp_path / "net.pt2", editing(MODEL, edit)))


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s77', positive=True, integer=True)",
        "s0 + 1",
        "-s0 // 2 + 7",
        "2*s0**2",
        "Mul(Integer(3), Symbol('s77', positive=True, integer=True))",
        "Add(Pow(Symbol('s0'), Integer(2)), Integer(-1))",
        "FloorDiv(Add(Symbol('s0', integer=True), Integer(-1)), Integer(2))",
        "Equality(Mod(Symbol('u0', integer=True), Integer(4)), Integer(0))",
        "Float('0.5', precision=53)",
        "Max(Integer(1), ToFloat(Symbol('s1')))",
    ],
)
def test_sizes(text):
    assert is_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').getcwd()",
        "(1).__class__",
        "exec('x=1')",
        "[c for c in ()]",
        "lambda: 1",
        "s0[0]",
        "f'{s0}'",
        "eval('s0')",
        "Add('exec(1)', 1)",
        "Symbol('exec(1)')",
        "Symbol(name='s0')",
        "sympify('1')",
        "factorial(10**9)",
        "9**9**9**9",
        "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        "Pow(Pow(Pow(Integer(9), 60), 60), 60)",
        "Pow(Integer(2), Symbol('s0'))",
        "LShift(Integer(1), Integer(10000000000))",
        "Float('1e999999999', precision=53)",
        "Float('1.5', precision=999999999)",
        "1" * 200_000,
        "(" * 10_000 + ")" * 10_000,
        "s0+" * 40_000 + "1",
        "s0 +",
        "",
    ],
)
def test_expressions_that_are_no_sizes(text):
    assert not is_size(text)


def test_a_program_exported_for_training_is_refused(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)).train()
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net, (torch.ones(2, 4),)), path)
    with pytest.raises(TraceError, match="training mode"):
        load_pt2(path)


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_a_truncated_file(tmp_path, keep):
    path = write(tmp_path / "net.pt2")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(TraceError, match="not an exported program"):
        load_pt2(path)


def test_damaged_files(tmp_path):
    """Any byte may be another one: an error of ours, or a program."""
    path: Path = write(tmp_path / "net.pt2")
    data = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for place in torch.randint(len(data), (60,), generator=generator).tolist():
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            load_pt2(path)
        except TraceError:
            continue
