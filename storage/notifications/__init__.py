"""Notification events and the outbox of their messages."""
