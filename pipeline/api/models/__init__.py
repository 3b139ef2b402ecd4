"""Models, choices of a strategy, comparisons and policies."""
