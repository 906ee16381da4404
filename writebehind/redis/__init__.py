"""The one boundary to Redis: connections, keys, and a typed method for each script. Imports `documents`."""
