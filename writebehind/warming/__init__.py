"""Loads what is read much before somebody has to wait for it. Imports `reading` and below."""
