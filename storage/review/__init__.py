"""Verdicts of reviewers, the status of flags, analysts' rules and mutes."""
