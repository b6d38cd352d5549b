"""virtstore's tests, in rings: see docs/design.md."""
