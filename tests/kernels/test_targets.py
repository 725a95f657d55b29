"""Targets: what a name stands for, and that one entry makes another one."""

from __future__ import annotations

import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

from autoprune.errors import TargetError
from autoprune.passes.kernels.build import tvm_module
from autoprune.passes.kernels.cpu.rowwise_int8 import RowwiseInt8
from autoprune.passes.kernels.target import AVX512, TARGETS, X86, Target, find_targets


def names(*given, int8=False):
    return [target.name for target in find_targets(given, int8=int8)]


def test_a_machine_stands_for_its_targets():
    assert names("x86-64") == ["x86-64-v4", "x86-64-v3"]
    assert names("arm64") == ["arm64"]
    assert names("x86-64", int8=True) == ["x86-64-v4-vnni"]
    assert names("arm64", int8=True) == ["arm64-dotprod"]
    assert names("x86-64-v3", "x86-64", "arm64") == ["x86-64-v3", "x86-64-v4", "arm64"]
    with pytest.raises(TargetError, match=r"x86-64-v3 has no dot products(.|\n)*arm64-dotprod"):
        names("x86-64-v3", int8=True)


def test_another_target_is_one_entry(monkeypatch):
    """The better one of two with dot products comes first, and kernels see what it has."""
    vnni = TARGETS["x86-64-v4-vnni"]
    features = (*AVX512, "avx512_vnni", "amx_int8")
    amx = Target("x86-64-v4-amx", X86, "sapphirerapids", 16, 32, features, dot=vnni.dot)
    monkeypatch.setattr("autoprune.passes.kernels.target.TARGETS", {amx.name: amx, **TARGETS})
    assert names("x86-64", int8=True) == ["x86-64-v4-amx", "x86-64-v4-vnni"]
    assert names("x86-64") == ["x86-64-v4", "x86-64-v3"]
    lowered = RowwiseInt8(32).lower(amx)
    assert lowered == RowwiseInt8(32).lower(vnni)
    assert len(tvm_module([lowered]).functions) == len(lowered.tiles) + 1
