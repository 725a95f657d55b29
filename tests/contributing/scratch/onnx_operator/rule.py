"""`Gate`: x tanh(strength y), position by position; what `Mul` is to zeros and axes."""

from autoprune.ops.rule import known, register

register("scratch.Gate", known("onnx.Mul"))
