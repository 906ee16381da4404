"""The one boundary to Redis: connections, keys, and a typed method for each script. Imports `documents`.

What is of no document, such as leases and figures, is in `shared`.
"""
