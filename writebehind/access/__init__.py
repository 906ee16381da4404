"""Whose requests are served: hosts, origins, and keys with what they allow."""
