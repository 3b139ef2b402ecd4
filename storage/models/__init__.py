"""Models with their choices and promotions, and stored comparisons."""
