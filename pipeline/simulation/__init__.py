"""Simulates payments for `fraudwatch simulate`: customers, merchants, fraud and labels."""
