"""The service's Celery application and its processes: workers, beat, Flower."""
