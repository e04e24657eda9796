"""Redis: the records of jobs, batches and hosts, and the Lua scripts that change them.

May import: errors, core. Only redislink imports redis.
Invariant: a record changes in one script, which checks owner and fence, and which may be sent twice.
"""
