"""What runs on the device: load a compiled artifact and execute it.

Depends on numpy and onnxruntime only, and is also installed alone as `autoprune_runtime`. Imports
inside this package are therefore relative, and nothing else of autoprune is imported here.
"""

__version__ = "0.1.0"
