"""Scoring runs, backfills and challengers: the steps of the ledger, carried out in order of time."""
