"""Cache-aside reads of documents by id. Imports `settings` and below."""
