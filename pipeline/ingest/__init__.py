"""Loads source rows as transactions and labels: validation, rejected rows, feeds and currency rates."""
