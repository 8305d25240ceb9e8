#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Install the power broker on a Slurm head node. Run it again after every update: it changes only what differs.
#
#   sudo ./install.sh --config DIR [--prefix /opt/power-broker] [--no-start]
#
# DIR has inventory.toml, policy.toml, broker.toml, collectors.toml and secrets.toml (samples: etc/).
# What is already in /etc/power-broker is never overwritten; --config may then be left out.
set -euo pipefail

source=$(dirname "$(readlink -f "$0")")
prefix=/opt/power-broker
config=
start=yes
lua=/usr/local/lib/power-broker/lua
settings=/etc/power-broker
slurm=/etc/slurm

did() { echo "install: $*"; }
die() { echo "install: $*" >&2; exit 1; }

arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
        --prefix) [ $# -ge 2 ] || die "--prefix needs a folder"; prefix=$2; shift 2 ;;
        --config) [ $# -ge 2 ] || die "--config needs a folder"; config=$2; shift 2 ;;
        --no-start) start=no; shift ;;
        -h | --help) sed -n '3,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) die "unknown argument '$1'; usage: install.sh --config DIR [--prefix DIR] [--no-start]" ;;
        esac
    done
}

check_this_machine() {
    local name
    [ "$(id -u)" = 0 ] || die "needs root (it makes users and units); run it with sudo"
    for name in slurmctld scontrol sacctmgr psql python3 gcc systemctl runuser; do
        command -v "$name" >/dev/null || die "'$name' is missing; install it first (README, What it needs)"
    done
    check_slurm
    runuser -u postgres -- psql -Atqc 'select 1' >/dev/null 2>&1 ||
        die "PostgreSQL does not answer user postgres on its local socket; start it first"
    sacctmgr -n show cluster >/dev/null 2>&1 ||
        die "slurmdbd does not answer sacctmgr; the broker needs it for its AdminLevel"
    for name in inventory policy broker collectors; do
        [ -e "$settings/$name.toml" ] || [ -n "$config" ] ||
            die "$settings/$name.toml is missing; write one (sample: etc/$name.toml) and name its folder with --config"
        [ -e "$settings/$name.toml" ] || [ -e "$config/$name.toml" ] || die "no $name.toml in $config"
    done
}

check_slurm() {
    local version
    version=$(slurmctld -V | awk '{print $2}')
    case $version in
    25.11.[0-6] | 26.05.[01]) die "Slurm $version hands out power tokens wrongly; update to 25.11.7 or 26.05.2 at least" ;;
    25.11.* | 26.05.*) did "Slurm $version" ;;
    *) die "Slurm $version is not supported; power tokens need 25.11.7 or later of 25.11, or 26.05.2 or later of 26.05" ;;
    esac
}

make_user() {
    if id "$1" >/dev/null 2>&1; then return; fi
    useradd --system --user-group --home-dir "$2" --no-create-home --shell /usr/sbin/nologin "$1"
    did "user $1"
}

make_folder() { # MODE OWNER GROUP PATH
    if [ "$(stat -c '%a %U %G' "$4" 2>/dev/null)" = "$1 $2 $3" ]; then return; fi
    install -d -m "$1" -o "$2" -g "$3" "$4"
    # install(1) leaves out the set-group-id bit on a folder that was there.
    chmod "$1" "$4"
    did "folder $4 ($2:$3, mode $1)"
}

make_users_and_folders() {
    make_user powerbroker /var/lib/power-broker
    make_user powercollect /var/lib/power-collector
    make_folder 755 root root "$settings"
    make_folder 755 powerbroker powerbroker /var/lib/power-broker
    make_folder 755 powerbroker powerbroker /var/lib/power-broker/slurm
    make_folder 750 powercollect powercollect /var/lib/power-collector
    # The hook (as slurm) appends verdicts, the broker reads and rotates them.
    make_folder 2775 "$(slurm_user)" powerbroker /var/spool/power-broker
}

slurm_user() {
    local name
    name=$(sed -n 's/^ *SlurmUser *= *\([A-Za-z0-9_.-]*\).*/\1/Ip' "$slurm/slurm.conf" | tail -1)
    echo "${name%%(*}" | grep . || echo root
}

install_python() {
    local build
    if [ ! -x "$prefix/bin/python" ]; then
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "python3 is older than 3.11"
        python3 -m venv "$prefix" || die "python3 -m venv failed; apt-get install python3-venv"
        did "virtual environment $prefix"
    fi
    build=$(mktemp -d)
    cp -r "$source"/{pyproject.toml,README.md,LICENSE,broker,collectors,migrations} "$build"
    install_package "$build" || { rm -rf "$build"; die "pip could not install the Python packages"; }
    rm -rf "$build"
    did "Python packages in $prefix"
    if ! "$prefix/bin/python" -m pip show -q pyslurm 2>/dev/null; then
        "$source/slurm_plugin/build-pyslurm" --python "$prefix/bin/python"
    fi
    for name in powerbrokerd powercollectord powermgr; do
        ln -sfn "$prefix/bin/$name" "/usr/local/bin/$name"
    done
}

install_package() {
    local pip=("$prefix/bin/python" -m pip --disable-pip-version-check install -q --root-user-action=ignore --no-build-isolation)
    # Without network where everything it depends on is already there.
    if "${pip[@]}" --no-index "$1" 2>/dev/null; then return; fi
    "${pip[@]}" 'setuptools>=69' wheel && "${pip[@]}" "$1"
}

install_settings() {
    local name
    for name in inventory policy broker collectors secrets; do
        if [ -e "$settings/$name.toml" ] || [ ! -e "$config/$name.toml" ]; then continue; fi
        install -m 644 "$config/$name.toml" "$settings/$name.toml"
        did "$settings/$name.toml from $config"
    done
    if [ -e "$settings/secrets.toml" ]; then
        chown powercollect: "$settings/secrets.toml"
        chmod 600 "$settings/secrets.toml"
    fi
    runuser -u powerbroker -- "$prefix/bin/powerbrokerd" --check "$settings"
    runuser -u powercollect -- "$prefix/bin/powercollectord" --check "$settings"
}

sql() { runuser -u postgres -- psql -v ON_ERROR_STOP=1 -Atqc "$1" "${2:-postgres}"; }

make_database() {
    local role
    for role in powerbroker powercollect; do
        if [ -z "$(sql "select 1 from pg_roles where rolname = '$role'")" ]; then
            sql "create role $role login"
            did "PostgreSQL role $role"
        fi
    done
    if [ -z "$(sql "select 1 from pg_database where datname = 'power_broker'")" ]; then
        sql "create database power_broker owner powerbroker"
        did "PostgreSQL database power_broker"
    fi
    (cd / && runuser -u powerbroker -- "$prefix/bin/powerbrokerd" --migrate)
    did "database schema is current"
}

make_slurm_administrator() {
    if [ "$(sacctmgr -nP show user powerbroker format=adminlevel)" = Administrator ]; then return; fi
    sacctmgr -iQ add user powerbroker account=root adminlevel=Administrator >/dev/null
    did "user powerbroker is AdminLevel=Administrator in slurmdbd"
}

lua_compiler() {
    local plugin version
    plugin=$(find /usr/lib /usr/lib64 /usr/local/lib -name job_submit_lua.so -print -quit 2>/dev/null)
    [ -n "$plugin" ] || die "Slurm's job_submit_lua.so is missing; install Slurm with Lua support"
    version=$(ldd "$plugin" | grep -o 'liblua-\?[0-9]\.[0-9]' | grep -o '[0-9]\.[0-9]' | head -1)
    command -v "luac$version" || command -v luac ||
        die "luac$version is missing, to check the hook before it is swapped in; apt-get install lua$version"
}

install_hook() {
    local luac file new
    luac=$(lua_compiler)
    while read -r file; do
        "$luac" -p "$file" || die "the hook has a syntax error; the installed one stays"
    done < <(find "$source/slurm_plugin" -name '*.lua')
    new=$lua.$(find "$source/slurm_plugin" -name '*.lua' | sort | xargs sha256sum | sha256sum | cut -c1-12)
    if [ "$(readlink "$lua")" != "$new" ]; then
        mkdir -p "$new"
        (cd "$source/slurm_plugin" && find . -name '*.lua' ! -name job_submit.lua | xargs cp --parents -t "$new")
        # One rename: slurmctld may read it at any moment.
        ln -sfn "$new" "$lua.new"
        mv -T "$lua.new" "$lua"
        did "hook modules in $lua"
        find "$(dirname "$lua")" -maxdepth 1 -name 'lua.*' ! -path "$new" -exec rm -rf {} +
        # slurmctld reads its script again, and with it our modules, when its time changes.
        [ ! -e "$slurm/job_submit.lua" ] || touch "$slurm/job_submit.lua"
    fi
    install_site_script
}

install_site_script() {
    if [ ! -e "$slurm/job_submit.lua" ]; then
        install -m 644 "$source/slurm_plugin/job_submit.lua" "$slurm/job_submit.lua.new"
        mv "$slurm/job_submit.lua.new" "$slurm/job_submit.lua"
        did "$slurm/job_submit.lua"
    elif ! grep -q power_broker "$slurm/job_submit.lua"; then
        did "YOUR TURN: $slurm/job_submit.lua is the site's own; call ours from it as slurm_plugin/job_submit.lua does"
    fi
}

link_resources() {
    local target=/var/lib/power-broker/slurm/resources.yaml
    if [ "$(readlink "$slurm/resources.yaml")" = "$target" ]; then return; fi
    [ ! -e "$slurm/resources.yaml" ] ||
        die "$slurm/resources.yaml exists and is not ours; two owners of one file would undo each other"
    ln -s "$target" "$slurm/resources.yaml"
    did "$slurm/resources.yaml links to $target"
}

install_units() {
    local unit
    for unit in "$source"/systemd/*.service; do
        sed "s|/opt/power-broker|$prefix|" "$unit" >"/etc/systemd/system/$(basename "$unit")"
    done
    systemctl daemon-reload
    systemctl --quiet enable powerbrokerd powercollectord
    did "units powerbrokerd and powercollectord are enabled"
    if [ "$start" = yes ]; then
        systemctl restart powercollectord powerbrokerd
        did "units powerbrokerd and powercollectord are started"
    fi
}

say_what_is_left() {
    local conf=$slurm/slurm.conf
    grep -qi '^ *JobSubmitPlugins *=.*lua' "$conf" || did "YOUR TURN: set JobSubmitPlugins=lua in $conf"
    grep -qi '^ *SchedulerParameters *=.*bf_licenses' "$conf" ||
        did "YOUR TURN: add bf_licenses to SchedulerParameters in $conf"
}

arguments "$@"
check_this_machine
make_users_and_folders
install_python
install_settings
make_database
make_slurm_administrator
install_hook
link_resources
install_units
say_what_is_left
did "done"
