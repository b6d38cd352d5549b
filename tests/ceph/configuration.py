"""Configurations of Ceph, with names in braces for what differs from cluster to cluster.

Sources: Ceph's documentation, "Configuration Reference" (monitors, managers, OSDs, messengers).
"""

from __future__ import annotations

from typing import Final

#: Of a small cluster that is to be there soon, and to say at once what changes in it.
OF_DAEMONS: Final = """
[global]
fsid = {fsid}
mon_host = [v2:{address}:{port}]
ms_bind_msgr1 = false
public_addr = {address}
cluster_addr = {address}
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
run_dir = {directory}
log_file = {directory}/$name.log
admin_socket =
log_to_syslog = false
mon_cluster_log_to_syslog = false
mon_cluster_log_file = {directory}/cluster.log
crash_dir = {directory}

[mon]
keyring = {directory}/mon/keyring
mon_data = {directory}/mon
mon_data_avail_crit = 1
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_max_pg_per_osd = 1000
mon_osd_crush_smoke_test = false
mon_tick_interval = 1
mon_mgr_beacon_grace = {grace}
paxos_propose_interval = 0.05
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
# An OSD that was stopped for a while is still there.
mon_osd_report_timeout = 900
osd_heartbeat_grace = 600

[mgr]
keyring = {directory}/keyrings/mgr.a
mgr_data = {directory}/mgr
mgr_module_path = {directory}/mgr
mgr_tick_period = 1
mgr_stats_period = 1

[osd]
keyring = {directory}/keyrings/osd.0
osd_data = {directory}/osd
osd_objectstore = memstore
memstore_device_bytes = {memory}
osd_crush_update_on_start = false
osd_heartbeat_interval = 1
osd_heartbeat_grace = 600
mgr_stats_period = 1
osd_op_num_shards = 2
osd_numa_auto_affinity = false

[client]
keyring = {directory}/keyrings/$name
log_file =
"""

#: What a host that uses the cluster has as its ceph.conf.
OF_HOSTS: Final = """
[global]
fsid = {fsid}
mon_host = [v2:{address}:{port}]
"""
