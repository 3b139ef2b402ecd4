"""When and what to run: the doors, one scoring run, one training run, ingest and features."""
