"""Readers and writers of models, one folder for each framework."""
