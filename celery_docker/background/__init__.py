"""The duties beside the jobs: heartbeat, housekeeping, health, orphans, the report of a host.

May import: errors, version, core, host, run.
Invariant: a failure in one round is logged, and the next round comes.
"""
