"""The `hosts` ring: virtstore between two hosts that are reached through a real sshd."""
