"""A job, its life and every decision about it, as values and pure functions.

May import: errors.
Invariant: no clock, no environment, no file, no socket; the same arguments give the same answer.
"""
