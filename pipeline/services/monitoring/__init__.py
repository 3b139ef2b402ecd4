"""Services about checks, reports, drift, detection quality and messages."""
