"""ONNX operators: names for the families' rules, and rules where the meaning differs.

Importing this package registers all of them. Arguments have the families' names; where they stand
in an ONNX node is the frontend's business.
"""

from autoprune.ir.discovery import import_files

import_files(__name__)
