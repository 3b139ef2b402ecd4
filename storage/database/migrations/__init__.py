"""Alembic migrations of the system tables."""
