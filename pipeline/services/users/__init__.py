"""Services about users, sessions, tokens, approvals, and what of an entity leaves the database."""
