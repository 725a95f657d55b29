"""Operator families: what each operator does to axes, to zeros, to cost and to its arguments.

Importing this package registers every family: all of its modules are imported, those of ONNX last,
because they give other names to rules of the families.
"""

from autoprune.ir.discovery import import_files

import_files(__name__)
