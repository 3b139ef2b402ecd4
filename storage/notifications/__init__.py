"""Queries for notification events, and the outbox of their messages."""
