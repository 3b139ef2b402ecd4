"""Queries that only read: listings, counts for the report, differences between policies, exports."""
