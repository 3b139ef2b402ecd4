"""Services about flags, verdicts, rules and mutes."""
