"""`python -m bench`: all benchmarks, one after the other."""

from bench import codec, connections, http, near, tasks

for benchmark in (codec, connections, near, tasks, http):
    benchmark.main()
