"""Ten lines: build, prune, save, load.  python examples/quickstart.py"""

import torch
from torch import nn

import autoprune as ap

model = nn.Sequential(
    nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
)
result = ap.prune(model, torch.randn(1, 64), flops=0.5)  # keep half of the FLOPs
print(result.report)

# Train result.model as you trained the original, then:
result.save("small.onnx")
result.save("small.safetensors")  # weights with the plan
again = ap.load(model, "small.safetensors")
