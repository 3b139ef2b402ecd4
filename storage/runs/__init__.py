"""The ledger of due steps, runs, schedules, the scoring queue, and the scores and flags they write."""
