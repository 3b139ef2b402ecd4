"""`compare`: every technique of imbalanced data, judged on the user's own history in order of time."""
