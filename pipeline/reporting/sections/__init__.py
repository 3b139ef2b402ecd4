"""The sections of the report, one a file: sentences, charts and tables about one subject."""
