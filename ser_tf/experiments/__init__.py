"""Experiments: many runs, ending in one table."""
