"""The report: one page about many runs, with the paper's tables and figures beside ours."""
