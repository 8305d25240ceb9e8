#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Runs inside the new root file system, with the host's network: all that must come from outside,
# because the booted lab has no way out. The suite itself is installed at each boot by install.sh.
#   build-full.sh REQUIREMENT...      /build holds build-pyslurm and its header
set -eu

python3 -m venv /opt/power-broker
# setuptools and wheel: install.sh builds the suite's own wheel without network.
/opt/power-broker/bin/python -m pip install -q 'setuptools>=69' wheel "$@"
/build/build-pyslurm --python /opt/power-broker/bin/python

useradd --create-home --uid 1001 --shell /bin/bash alice
useradd --create-home --uid 1002 --shell /bin/bash bob

# Debian's one slurmd is replaced by sixteen; the others are started by tests/lab/boot, once configured.
systemctl disable --quiet slurmd slurmctld slurmdbd mariadb
# The tests start agents of their own, on ports of their own; the PDUs have 161.
systemctl mask --quiet snmpd
systemctl mask --quiet dev-hugepages.mount apt-daily.timer apt-daily-upgrade.timer
cat >/etc/mysql/mariadb.conf.d/99-lab.cnf <<'CNF'
[mariadbd]
# slurmdbd aborts now and then with MariaDB's default since 11.6.2.
innodb_snapshot_isolation = OFF
innodb_buffer_pool_size = 64M
innodb_flush_log_at_trx_commit = 0
CNF
mkdir -p /var/lib/fakegpu
for gpu in 0 1 2 3 4 5 6 7; do : >"/var/lib/fakegpu/gpu$gpu"; done
# mmdebstrap copies the host's name, and it would beat nspawn's --hostname.
echo head >/etc/hostname
printf '127.0.0.1 localhost\n10.77.0.1 head\n' >/etc/hosts
