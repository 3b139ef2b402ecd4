"""Stored history to a feature matrix, point in time: a row sees only what was known when it happened."""
