"""Notification events to messages, and messages to people by Apprise."""
