"""Queries that only read: lists in pages, counts for the report, differences between policies, exports."""
