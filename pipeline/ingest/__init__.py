"""Source rows to transactions and labels: validation, rejected rows, feeds and currency rates."""
