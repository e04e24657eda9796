"""Checks of a queue and of this machine, each with its remedy.

May import: errors, core, store, engine, host.
Invariant: facts are gathered, then judged by pure functions; nothing is changed.
"""
