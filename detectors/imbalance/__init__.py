"""Techniques for imbalanced data that `compare` tries: resampling, generation, their registry and their backtest."""
