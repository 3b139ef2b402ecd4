"""Drift and detection quality of scored windows."""
