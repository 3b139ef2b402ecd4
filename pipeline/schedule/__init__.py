"""The grid of windows, the steps that are due and the context of a run."""
