"""Operator families: what each operator does to axes, to zeros, to cost and to its arguments.

Importing this package registers every family: all of its modules are imported, those of ONNX last,
because they give other names to rules of the families.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in sorted(iter_modules(__path__), key=lambda module: module.ispkg):
    import_module(f"{__name__}.{_module.name}")
