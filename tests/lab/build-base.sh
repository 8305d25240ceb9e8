#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# build-base.sh ROOTFS MIRROR PACKAGES SUITE [APT_PROXY]: Debian with Slurm and both databases, about a minute.
set -eu
rootfs=$1 mirror=$2 packages=$3 suite=$4 proxy=${5:-}

mmdebstrap --quiet --variant=apt --components=main \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --aptopt='APT::Install-Recommends "false"' \
    ${proxy:+--aptopt="Acquire::http::Proxy \"$proxy\""} \
    --include="$packages" "$suite" "$rootfs" "$mirror"
