"""The ledger of due steps, runs, stored schedules, the scoring queue, and writing scores and flags."""
