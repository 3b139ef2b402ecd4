"""`compare`: techniques for imbalanced data, evaluated on the user's own history in time order."""
