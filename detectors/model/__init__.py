"""AutoDetector, the fitted model it returns, and the sealed artifact a model is stored as."""
