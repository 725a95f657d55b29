"""ONNX operators: names for the families' rules, and rules where the meaning differs.

Importing this package registers all of them. Arguments have the families' names; where they stand
in an ONNX node is the frontend's business.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
