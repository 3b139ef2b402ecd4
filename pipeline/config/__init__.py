"""config.toml and environment variables become one frozen Config; opens the database that it names."""
