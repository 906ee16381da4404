"""Routes for operators: what the pipeline does, and dead letters."""
