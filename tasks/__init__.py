"""The Celery application: a message in, one call of the core, retry or acknowledge."""
