"""Commands about flags, verdicts, rules and mutes."""
