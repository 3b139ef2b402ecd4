"""`init --from FILE`: column profiles, their roles, and the config they propose."""
