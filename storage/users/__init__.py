"""Who may log in: users, their sessions and log-ins, tokens of programs, and what one user asked another to approve."""
