"""How good a detector is: metrics, calibration, thresholds, prevalence, label delay and their uncertainty."""
