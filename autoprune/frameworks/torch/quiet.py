"""What torch says on standard error while it exports is for its own developers."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch.export._trace as exporter


def _nothing(record: logging.LogRecord) -> bool:
    return False


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Keep back torch's logs, its warnings, and the partial graph of an export that fails.

    Only torch's own loggers are silenced, and none if `TORCH_LOGS` asks for them.
    """
    if os.environ.get("TORCH_LOGS"):
        yield
        return
    known = logging.root.manager.loggerDict
    loggers = [
        logger
        for name, logger in known.items()
        if isinstance(logger, logging.Logger) and name.split(".")[0] == "torch"
    ]
    for logger in loggers:
        logger.addFilter(_nothing)
    # The exporter prints the graph that it got to; a name of its module goes before the built-in.
    vars(exporter)["print"] = lambda *_, **__: None
    try:
        with warnings.catch_warnings():
            # Some count as ours, through whose function mode calls go while a model is traced.
            warnings.filterwarnings("ignore", module=r"(torch|autoprune)\b")
            # Recurrent layers and hooks of weights make tensors anew in every forward pass.
            warnings.filterwarnings("ignore", r"The tensor attributes? .* assigned during export")
            yield
    finally:
        vars(exporter).pop("print", None)
        for logger in loggers:
            logger.removeFilter(_nothing)


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Keep back all warnings, and what loggers of some names, or all, say that is no error."""
    disabled = logging.root.manager.disable
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    if not names:
        logging.disable(max(disabled, logging.WARNING))
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
