"""Rendering of the report: its data, charts, tables and the HTML page."""
