"""In-memory stand-ins for Docker and Redis, which pass the contract tests that the real adapters pass."""
