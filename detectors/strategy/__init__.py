"""The choice between outlier detection, a blend and classification, and the evidence for it."""
