"""ONNX models: their graph, and models cut out of them."""
