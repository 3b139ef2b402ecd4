"""Drift, quality, rates and limits, messages, and the audit trail."""
