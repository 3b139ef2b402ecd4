"""Batches of transactions and labels, revisions, feed state, queries of external databases, and stored history."""
