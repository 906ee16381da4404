"""`python -m bench`: all benchmarks, one after the other."""

from bench import codec, connections, http, near, queries, tasks

for benchmark in (codec, connections, near, queries, tasks, http):
    benchmark.main()
