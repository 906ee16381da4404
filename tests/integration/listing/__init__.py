"""Lists of a collection, on real servers."""
