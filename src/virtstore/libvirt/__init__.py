"""libvirt on this host: which domains there are, and asking it to do something with one.

It is asked through `virsh`, so no library has to match this Python (`virsh`); what it says becomes
values here (`domains`, `live_disk`). A host without libvirt costs a look for its sockets.
"""
