"""Learners that bring units to zero while a network trains."""
