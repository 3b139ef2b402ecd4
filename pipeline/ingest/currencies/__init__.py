"""Currencies: their codes, their rates by date, and where rates come from."""
