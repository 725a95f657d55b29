"""Whole networks on ONNX Runtime, with and without sparse kernels, for benchmarks/networks.py."""
