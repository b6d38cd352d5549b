"""One suite for each contract, run against all who keep it."""
