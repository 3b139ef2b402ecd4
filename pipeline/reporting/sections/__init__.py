"""The sections of the report, one per file: sentences, charts and tables on one subject."""
