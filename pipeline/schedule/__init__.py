"""The grid of windows, the steps that are due and the context in which a run carries them out."""
