"""The routes of the console, one file a page."""
