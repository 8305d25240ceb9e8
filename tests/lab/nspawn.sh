#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# nspawn.sh NAME ROOTFS BIND...: boot the root file system; every mount made here ends with the container.
# Called with mounts of its own (unshare --mount). The root file system is never written to.
set -eu
name=$1 rootfs=$2
shift 2

# systemd in the container needs cgroup v2; a host that mounts v1 gives it a private mount.
if ! [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
# A cgroup of its own: two containers sharing one would reach each other's daemons with `systemctl kill`.
group=/sys/fs/cgroup/power-broker-lab/$name
mkdir -p "$group"
echo $$ >"$group/cgroup.procs"

# nspawn locks the folder it boots, but a lab only reads it and others boot it too.
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
root=/run/power-broker-lab/$name/root
mkdir -p "$root"
mount --bind "$rootfs" "$root"

binds=
for bind in "$@"; do binds="$binds --bind-ro=$bind"; done
# shellcheck disable=SC2086  # one word each: `up` refuses paths with spaces
exec systemd-nspawn --quiet --machine="$name" --directory="$root" --volatile=overlay --boot \
    --register=no --keep-unit --private-network --hostname=head --console=pipe \
    --resolv-conf=off --timezone=off --link-journal=no $binds
