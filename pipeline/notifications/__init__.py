"""Notifications: events are queued as messages in the outbox and sent by Apprise."""
