"""One training: readiness, training set, samples, strategy choice, fit and promotion gate."""
