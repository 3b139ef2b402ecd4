"""A span of time for people: the report as a page of sections, and the summary as text."""
