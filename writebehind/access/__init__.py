"""Hosts and origins that are served. Imports nothing above `errors`."""
