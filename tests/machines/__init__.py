"""Booted Debian machines under systemd-nspawn, and the package on them; the system tests and the faults use them."""
