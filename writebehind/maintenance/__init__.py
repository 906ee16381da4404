"""The periodic tasks, and a watch on the clock of Redis. Imports `reconcile` and below."""
