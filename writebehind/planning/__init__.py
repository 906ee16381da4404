"""A capacity plan: from a load to partitions, memory, workers and MongoDB operations. No server is asked."""
