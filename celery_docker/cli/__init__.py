"""The commands celery-docker and tasks.py.

May import: errors, version, core, host (for the dry run), store, client, doctor.
Invariant: data to the standard output, words to the standard error, and no traceback.
"""
