"""config.toml and environment variables to one frozen Config, and the database it names."""
