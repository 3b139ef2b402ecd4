"""Services about the database, ingest, feeds and export."""
