"""Erasing a person, pruning by retention, undoing a batch or a run."""
