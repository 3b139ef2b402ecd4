"""The HTTP API: the services as JSON and CSV under `/api/v1`, one router a noun; only `fraudwatch serve` imports it."""
