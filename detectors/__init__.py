"""Arithmetic: arrays in, scores out. Higher always means rarer or more suspicious."""
