"""What changes a graph or chooses what to cut: graph passes, criteria, allocation, learners."""
