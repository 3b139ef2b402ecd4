"""Flags, verdicts, labels, notes, claims, rules and mutes."""
