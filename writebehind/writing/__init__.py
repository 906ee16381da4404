"""Acknowledged writes: check, encode, admit, commit. Imports `flushing` and below."""
