"""The documents' site: what of it is made from the code, and its pictures."""
