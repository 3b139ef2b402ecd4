"""Payments, entities, feeds and exports."""
