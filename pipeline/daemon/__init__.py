"""The long-running process: ticks, signals, the health port and the logs."""
