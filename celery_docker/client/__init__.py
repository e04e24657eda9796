"""The Python interface of submitters: jobs, batches, logs.

May import: errors, core, host, store.
Invariant: it needs neither Celery nor Docker, and a job is checked before anything is queued. Whoever asks does not
know which way is taken: to Redis (`direct`), or through the gateway of this host (`remote`).
"""
