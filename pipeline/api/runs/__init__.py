"""Runs, gaps and backfills."""
