"""Use cases that the command line and the daemon share: typed request in, typed result out."""
