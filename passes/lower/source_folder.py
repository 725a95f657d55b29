"""A compiled network as a folder of C source, for whoever builds the operators themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from autoprune.errors import TargetError
from autoprune.passes.kernels.c_source import FLAGS, operator_sources
from autoprune.passes.kernels.kernel import Kernel
from autoprune.passes.kernels.target import Target
from autoprune.passes.lower.artifact import Contents
from autoprune.runtime.folders import making_folder

_README = """\
# A network with sparse operators, as C source

`model.onnx` runs in ONNX Runtime {onnxruntime} or newer together with a library of its operators,
which gcc builds from the files here, and from nothing else:

```sh
cc {flags} {processor}=native *.c -lm -o operators.so
```

`{processor}=native` is for the processor that compiles; name another one to build for that. Tiles
have sizes that suit {target}; code for any other processor computes the same, but may be slower.

```python
options = onnxruntime.SessionOptions()
options.register_custom_ops_library("./operators.so")
session = onnxruntime.InferenceSession("model.onnx", options)
```

In C it is `RegisterCustomOpsLibrary` of ONNX Runtime's interface. `manifest.json` states inputs,
outputs, and the size and SHA-256 of every file.
"""


def write_source(
    folder: str | Path, contents: Contents, kernels: Sequence[Kernel], target: Target
) -> None:
    """Write a folder with the model, the C source of its operators, a README and a manifest.

    Args:
        folder: a path at which there is nothing, or an empty folder.
        contents: the compiled network.
        kernels: those that its operators name, by their place.
        target: the processor that the kernels' tiles are for.

    Raises:
        TargetError: if no layer is sparse.
        OSError: if there is something at `folder`, or it cannot be written to.
    """
    if contents.model is None:
        raise TargetError(
            "no layer runs on sparse kernels, so there are no operators to build",
            hint="run the standard model with ONNX Runtime as it is",
        )
    readme = _README.format(
        onnxruntime=contents.onnxruntime,
        flags=" ".join(FLAGS),
        processor=target.platform.tuning,
        target=target.name,
    )
    texts = {**operator_sources([kernel.lower(target) for kernel in kernels]), "README.md": readme}
    files = {name: text.encode() for name, text in texts.items()} | {"model.onnx": contents.model}
    with making_folder(folder) as temporary:
        for name, data in {**files, "manifest.json": _manifest(files, contents, target)}.items():
            (temporary / name).write_bytes(data)


def _manifest(files: dict[str, bytes], contents: Contents, target: Target) -> bytes:
    record = {
        "inputs": [asdict(spec) for spec in contents.inputs],
        "outputs": [asdict(spec) for spec in contents.outputs],
        "target": target.name,
        "onnxruntime": contents.onnxruntime,
        "tolerance": asdict(contents.tolerance),
        "provenance": dict(contents.provenance),
        "files": {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in sorted(files.items())
        },
    }
    return json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"
