"""Validates rows, and sets bad ones aside with a reason."""
