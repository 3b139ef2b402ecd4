"""Batches of transactions and labels, revisions, the state of feeds, external queries, and history."""
