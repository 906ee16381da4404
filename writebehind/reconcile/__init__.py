"""Finds where Redis and MongoDB differ, and repairs it. Imports `change_stream` and below."""
