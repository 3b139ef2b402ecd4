"""A report of a span of time: sections with sentences, charts and tables, as one page that needs no network."""
