"""Scoring runs, backfills and challengers: process the steps of the ledger in the order of time."""
