"""Reads CSV, Parquet, JSON Lines and query results as batches of typed columns."""
