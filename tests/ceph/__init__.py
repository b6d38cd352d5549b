"""A Ceph cluster of our own, as ordinary processes: a monitor, a manager and an OSD.

The OSD keeps everything in memory, and all three are on loopback, at free ports, with a new key
each. They need no root and nothing of /etc. Each worker of a run has a cluster of its own: what a
test does to it (no room, no answer) no other test sees.

- `cluster.py` starts and ends one, and asks it.
- `configuration.py` has what its daemons, and the hosts that use it, are told of it.
- `gateway.py` starts radosgw, which serves S3 from it.
- `keys.py` makes the keys of users and daemons.
- `place.py` is a host with the pool, `guest.py` somebody who has an image open.
"""
