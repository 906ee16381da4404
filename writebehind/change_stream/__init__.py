"""Changes of others in MongoDB, brought to the cache. Imports `flushing`, `querying` and below."""
