"""The parts of `redis` for what is derived from documents: aliases of unique values, and results of queries."""
