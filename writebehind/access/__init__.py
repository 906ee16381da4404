"""Who is served: hosts and origins. Imports nothing above `errors`."""
