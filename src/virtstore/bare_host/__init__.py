"""What runs on a host that has no virtstore yet: it puts virtstore there, and takes it away.

These modules are sent to that host as they stand (client/setup_session.py), and run there by the
system's Python alone. So they import nothing but its standard library and each other.
"""
