"""Tests that run in the lab, as root: write them as any others (see `replay.py`)."""
