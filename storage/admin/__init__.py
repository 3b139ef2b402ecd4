"""Erasing a person's data, pruning by retention, and undoing a batch or a run."""
