"""ONNX -> torch.fx.GraphModule, to train an ONNX model further."""
