"""What reviewers say: verdicts, the status of flags, rules and mutes."""
