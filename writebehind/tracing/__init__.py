"""Spans of OpenTelemetry: which there are, what they say, and how the contexts of writes wait in Redis."""
