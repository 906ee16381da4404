"""The API for Flask applications: routes, and what they read and answer. Imports the core and Flask, no Celery."""
