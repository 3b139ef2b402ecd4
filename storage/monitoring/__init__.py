"""Drift metrics, quality metrics and the figures of the health port."""
