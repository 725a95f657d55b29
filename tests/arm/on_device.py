"""What runs on an emulated device: artifacts on given inputs, with the runtime alone.

Standard input is JSON, a list of {artifact, options, inputs, outputs}: a path, keywords of Session,
and paths of .npz files. Standard output is a JSON list of {backend, features, verified}, or of
{error, message} where the session was refused.
"""

import json
import sys
import warnings

import numpy as np
from autoprune_runtime import AutopruneRuntimeError, DenseNotice, Session
from autoprune_runtime.cpu import this_cpu


def run(artifact, options, inputs, outputs):
    try:
        session = Session(artifact, **options)
    except AutopruneRuntimeError as error:
        return {"error": type(error).__name__, "message": str(error)}
    with np.load(inputs) as arrays:
        np.savez(outputs, **session.run(dict(arrays)))
    verified = [row.passed for row in session.verify().differences]
    return {
        "backend": session.backend,
        "features": sorted(this_cpu().features),
        "verified": verified,
    }


warnings.simplefilter("ignore", DenseNotice)
print(json.dumps([run(**job) for job in json.load(sys.stdin)]))
