"""The only SQL: frames and records in, frames and records out."""
