"""The one boundary to Redis: connections, keys, and a typed method for each script. Imports `documents`.

What is derived from documents is in `derived`; what is of no document, such as leases and figures, in `shared`.
"""
