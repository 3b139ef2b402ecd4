"""Report data, charts, tables and the HTML page that they stand on."""
