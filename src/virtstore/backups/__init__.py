"""What makes a directory of archives a set of backups: their names, and the rules that keep them.

Nothing is stored besides the archives. What each is of, and when it was made, its name says.
"""
