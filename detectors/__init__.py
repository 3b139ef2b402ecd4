"""Arithmetic on arrays: no SQL, no clock, no log. A higher score always means rarer or more suspicious."""
