"""The command line: `autoprune`, or `python -m autoprune`."""
