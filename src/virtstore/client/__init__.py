"""The side that asks: it reaches the agents of hosts, asks them, and checks what they answer."""
