"""Training of one model: readiness, training set, samples, strategy choice, fit and promotion gate."""
