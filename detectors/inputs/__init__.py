"""What a detector is given: samples with labels, encoded columns and rank scales."""
