"""The commands, a module for each family, named in the table of commands.

May import: what cli may, but not each other.
Invariant: a command returns its exit status and ends in one line for what the user can mend.
"""
