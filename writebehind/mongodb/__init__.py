"""The one boundary to MongoDB: guarded writes, reads, error codes, the breaker. Imports `redis` and below."""
