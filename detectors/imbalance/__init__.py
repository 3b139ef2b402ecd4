"""Techniques for imbalanced data that `compare` tries: resampling, generation and their registry."""
