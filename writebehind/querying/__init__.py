"""Reads by a unique field or by a query of the settings. Imports `reading` and below."""
