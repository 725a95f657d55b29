"""Writers: they turn a graph and a choice of units back into a framework's model."""
