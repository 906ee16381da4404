"""`python -m tests.chaos.increments`: increments with keys, over connections that are cut."""
