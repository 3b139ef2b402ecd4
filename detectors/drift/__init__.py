"""Whether a distribution moved: histograms, metrics, calibrated alarms and the reference they compare with."""
