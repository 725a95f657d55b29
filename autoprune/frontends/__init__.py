"""Readers: they turn a framework's model into a `Graph`."""
