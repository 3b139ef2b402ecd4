"""CSV, Parquet, JSON Lines and queries, each read into typed batches of columns."""
