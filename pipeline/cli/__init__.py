"""The command line: arguments in, a service call, text out; one file per noun."""
