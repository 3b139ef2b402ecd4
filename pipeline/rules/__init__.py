"""Analysts' rules and mutes: parser, expression, engine, preview and mutes."""
