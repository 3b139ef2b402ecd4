"""Storage: all SQL of the product. It takes and returns arrays and records."""
