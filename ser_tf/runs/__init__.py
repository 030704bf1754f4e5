"""What a run leaves behind: its folder, files, weights and predictions."""
