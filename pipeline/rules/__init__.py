"""Analysts' rules and mutes: parser, expression, engine and preview."""
