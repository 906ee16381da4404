"""Redis as more than one server."""
