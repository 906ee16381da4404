"""`python -m bench`: all benchmarks, one after the other."""

from bench import codec, connections, http, near, queries, reconcile, tasks, trickle, warm

for benchmark in (codec, connections, near, queries, tasks, http, reconcile, trickle, warm):
    benchmark.main()
