"""Figures of the installed package, measured in a booted Debian, each beside its baseline; nothing is asserted here."""
