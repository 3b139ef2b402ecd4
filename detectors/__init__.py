"""Machine learning on arrays: detectors, their evaluation, drift. No SQL, no clock, no log. A higher score is more suspicious."""
