"""Use cases that every door shares: a typed request in, a typed result out."""
