"""Scores of new transactions: the model cache, the scores, the audit sample, flags and their reasons."""
