"""Docker, by its HTTP interface.

May import: errors, core. Only credentials imports docker.
Invariant: each call but a stop ends in bounded time, with an answer or one of our errors; nothing is retried here.
"""
