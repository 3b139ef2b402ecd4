"""Evaluation of detectors: metrics, calibration, thresholds, prevalence, label delay, with confidence intervals."""
