"""Services about trainings, ticks, backfills, and what has run."""
