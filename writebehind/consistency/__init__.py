"""Measures which part of what readers see is true, and repairs nothing. Imports `change_stream` and below."""
