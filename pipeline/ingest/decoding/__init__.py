"""Turns the bytes of a file or stream into those of its text in UTF-8: unpacks them, and converts other encodings."""
