"""Figures of the last hour, and what follows from them for the next. Imports `writing` and below."""
