"""Zeros within the weights of ONNX models; torch is not needed."""

from autoprune.onnx_sparsity.one_shot import sparsify_onnx
from autoprune.onnx_sparsity.result import SparseOnnx

__all__ = ["SparseOnnx", "sparsify_onnx"]
