"""`python -m tests.chaos.failovers`: failovers of Redis in each topology, while clients write and read."""
