"""`make release-check`: the gates that both packages pass before a release."""
