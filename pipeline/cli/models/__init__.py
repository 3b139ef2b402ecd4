"""Commands about models, choices of a strategy, readiness, comparisons of techniques and policies."""
