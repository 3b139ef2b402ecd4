"""Inputs of detectors: training samples, feature encoding and rank scales."""
