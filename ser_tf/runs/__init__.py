"""The output of a run: its folder, files, weights and predictions."""
