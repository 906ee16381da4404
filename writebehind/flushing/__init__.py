"""From Redis to MongoDB: batches, what becomes of them, and dead letters. Imports `querying` and below."""
