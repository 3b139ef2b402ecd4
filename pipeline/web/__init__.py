"""The console: pages for people over the same services as the API, rendered here, without another host or a build step."""
