"""Stored history to a feature matrix, point in time: a row uses only what was known when it happened."""
