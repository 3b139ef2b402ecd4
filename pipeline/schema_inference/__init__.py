"""Schema inference for `init --from FILE`: column profiles, column roles, a proposed config."""
