"""Where the arguments of `Gate` stand in a node."""

from autoprune.frameworks.onnx.signatures import bind

bind("scratch.Gate", "input other | strength=1.0")
