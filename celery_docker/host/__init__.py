"""This machine: its users, paths, log files, identity, and systemd.

May import: errors, core.
Invariant: a log file and the note about it never tell of more bytes than were written.
"""
