"""The Python interface of submitters: jobs, batches, logs.

May import: errors, core, store.
Invariant: it needs neither Celery nor Docker, and a job is checked before anything is queued.
"""
