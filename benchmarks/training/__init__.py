"""Real training for benchmarks/train_once.py: data, networks, one loop, and the methods."""
