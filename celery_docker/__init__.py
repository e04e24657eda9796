"""celery-docker: a queue for container jobs on your own Debian machines."""
