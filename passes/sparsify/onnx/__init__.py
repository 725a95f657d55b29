"""Zeros within the weights of ONNX models; torch is not needed."""

from autoprune.passes.sparsify.onnx.one_shot import sparsify_onnx
from autoprune.passes.sparsify.onnx.result import SparseOnnx

__all__ = ["SparseOnnx", "sparsify_onnx"]
