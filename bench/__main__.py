"""`python -m bench`: all benchmarks, one after the other."""

from bench import codec, connections, http, tasks

for benchmark in (codec, connections, tasks, http):
    benchmark.main()
