"""Calls in a `.pt2` file that are not known: refused before anything of it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import autoprune as ap
from autoprune.cli.main import main
from autoprune.errors import TraceError
from autoprune.frameworks.torch.pt2 import load_pt2
from autoprune.frameworks.torch.pt2.operators import is_known
from autoprune.ops.rule import find, forget
from tests.security.programs import (
    MODEL,
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
        own = name.partition(".")[0] in ("aten", "onnx", "quantized_decomposed")
        assert own or find(name), name
        kinds = " ".join(str(argument.type) for argument in arguments)
        assert not any(word in kinds for word in ("Storage", "Stream", "__torch__"))
        assert not {"filename", "out"} & {argument.name for argument in arguments}


def test_every_operator_of_aten_with_a_rule_is_known():
    """But for those that change the memory of a tensor, and leave there what was there before."""
    for name, arguments in registered():
        if name.startswith("aten.") and "resize" not in name and find(name) and not any(
            argument.kwarg_only and argument.is_write for argument in arguments
        ):  # fmt: skip
            assert is_known(f"torch.ops.{name}"), name


@pytest.mark.parametrize(
    "name", ["torchvision.nms.default", "quantized_decomposed.quantize_per_tensor.default"]
)
def test_what_registers_an_operator_is_imported(name):
    module = "autoprune.frameworks.torch.pt2.operators"
    code = f"from {module} import is_known; assert is_known('torch.ops.{name}')"
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
