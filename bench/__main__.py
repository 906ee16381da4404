"""`python -m bench`: all benchmarks, one after the other."""

from bench import codec, connections, http, many, near, queries, reconcile, tasks, trickle, warm

for benchmark in (codec, connections, near, queries, tasks, http, many, reconcile, trickle, warm):
    benchmark.main()
