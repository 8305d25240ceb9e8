# SPDX-License-Identifier: GPL-2.0-or-later
"""The simulated fleet: PDUs (SNMP v2c) and BMCs (IPMI 2.0, DCMI) whose readings follow the jobs.

`python -m tests.fleet serve` answers for every PDU and BMC of the inventory; a node's draw is its
idle draw plus what the jobs on it declare in their environment (FLEET_LOAD=7.5kW per node, or
FLEET_CURVE=/path.csv of `seconds,watts` lines).  `python -m tests.fleet extra r1 15kW`, `mute`,
`lie`, `reset`, `status`, `counts` and `log` make it misbehave and ask what it did.
"""
