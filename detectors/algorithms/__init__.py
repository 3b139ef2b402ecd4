"""Outlier detectors and classifiers, one algorithm a file, and the kernels they share."""
