-- Part of other scripts, which take it in by naming it: the states in which a job ends, as `core.lifecycle` has them.
local FINAL = {'succeeded', 'failed', 'timed_out', 'expired', 'cancelled', 'rejected', 'error', 'lost'}
