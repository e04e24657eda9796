"""Workers as processes of this machine on real servers, several as hosts; integration tests and faults use them."""
