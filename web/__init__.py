"""The HTTP API: a request in, one call of the core, a response out."""
