"""Routes of documents: reading and writing, one or many."""
