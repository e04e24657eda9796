"""One job, from its claim to its receipt.

May import: errors, core, host; Docker and Redis are reached through ports.
Invariant: at most one container of a job, and no end is reported that Docker or the record did not tell.
"""
