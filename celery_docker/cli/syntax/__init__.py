"""The words of the command line: the table of commands, and parser, help, completions and manual made from it.

May import: what cli may; no Redis and no Docker are loaded for help or completion.
Invariant: a flag stands in one table, and all else is made from it.
"""
