"""The read side: listings, counts for the report, differences between policies, exports."""
