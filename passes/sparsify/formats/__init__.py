"""The formats, a file for those that are alike; each names its own in `registry.FAMILIES`."""
