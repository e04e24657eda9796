"""The process celery-worker: Celery's seam, the wiring of all parts, and the shutdown.

May import: all but client, doctor and cli. Only this folder imports celery, only transport imports kombu.
Invariant: whichever way the process ends, its containers live on or are stopped by order, never by accident.
"""
