"""Sparse linear layers on NVIDIA GPUs: functions, the libraries of them, and layers for torch."""
