"""The contract of the job records: the same tests on the fake and on the store over a real Redis."""
