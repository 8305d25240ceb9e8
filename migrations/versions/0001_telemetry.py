# SPDX-License-Identifier: GPL-2.0-or-later
"""Telemetry: samples by UTC day, latest per device, and who may make and drop days."""

from alembic import op

revision = "0001_telemetry"
down_revision = None
branch_labels = None
depends_on = None

_QUALITY = "CHECK (quality IN ('good', 'implausible', 'not_supported', 'estimated'))"

_SAMPLES = f"""
CREATE TABLE samples (
    device text NOT NULL,
    polled_at timestamptz NOT NULL,
    active_power_w integer,
    apparent_power_va integer,
    energy_wh bigint,
    quality text NOT NULL CONSTRAINT samples_quality {_QUALITY},
    note text NOT NULL DEFAULT '',
    PRIMARY KEY (device, polled_at)
) PARTITION BY RANGE (polled_at)"""

_LATEST = f"""
CREATE TABLE latest (
    device text PRIMARY KEY,
    kind text NOT NULL CONSTRAINT latest_kind CHECK (kind IN ('pdu', 'bmc')),
    polled_at timestamptz,
    active_power_w integer,
    quality text CONSTRAINT latest_quality {_QUALITY},
    note text NOT NULL DEFAULT '',
    good_at timestamptz,
    good_power_w integer,
    silent_since timestamptz
) WITH (fillfactor = 50)"""

# A day long past or far ahead comes from a wrong clock, not from a meter.
_MAKE_ONE = """
CREATE FUNCTION make_sample_partition(day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    name text := 'samples_' || to_char(day, 'YYYYMMDD');
    today date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    IF day IS NULL OR day < today - 3660 OR day > today + 40 THEN
        RAISE EXCEPTION 'make_sample_partition: % is no day to keep samples of', day;
    END IF;
    IF to_regclass('public.' || name) IS NULL THEN
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS public.%I PARTITION OF public.samples '
            'FOR VALUES FROM (%L) TO (%L)',
            name, to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00',
            to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00');
    END IF;
END $$"""

_MAKE_AHEAD = """
CREATE FUNCTION make_sample_partitions(days_ahead integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    IF days_ahead IS NULL OR days_ahead < 0 OR days_ahead > 40 THEN
        RAISE EXCEPTION 'make_sample_partitions: % days ahead, expected 0 to 40', days_ahead;
    END IF;
    FOR ahead IN 0..days_ahead LOOP
        PERFORM public.make_sample_partition(today + ahead);
    END LOOP;
END $$"""

_DROP_OLD = """
CREATE FUNCTION drop_sample_partitions(keep_days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    oldest text := 'samples_' || to_char((now() AT TIME ZONE 'UTC')::date - keep_days, 'YYYYMMDD');
    old record;
    dropped integer := 0;
BEGIN
    IF keep_days IS NULL OR keep_days < 2 THEN
        RAISE EXCEPTION 'drop_sample_partitions: % days kept, expected 2 or more', keep_days;
    END IF;
    FOR old IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.samples'::regclass
          AND c.relname ~ '^samples_[0-9]{8}$' AND c.relname < oldest
    LOOP
        EXECUTE format('DROP TABLE public.%I', old.relname);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$"""

_FUNCTIONS = {
    "make_sample_partition(date)": _MAKE_ONE,
    "make_sample_partitions(integer)": _MAKE_AHEAD,
    "drop_sample_partitions(integer)": _DROP_OLD,
}

# The collector has its own role where the suite is installed; a test's database may not.
_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'powercollect') THEN
        GRANT SELECT, INSERT ON samples TO powercollect;
        GRANT SELECT, INSERT, UPDATE ON latest TO powercollect;
        GRANT EXECUTE ON FUNCTION make_sample_partition(date) TO powercollect;
        GRANT EXECUTE ON FUNCTION make_sample_partitions(integer) TO powercollect;
        GRANT EXECUTE ON FUNCTION drop_sample_partitions(integer) TO powercollect;
    END IF;
END $$"""


def upgrade() -> None:
    op.execute(_SAMPLES)
    op.execute(_LATEST)
    for signature, statement in _FUNCTIONS.items():
        op.execute(statement)
        op.execute(f"REVOKE EXECUTE ON FUNCTION {signature} FROM PUBLIC")
    op.execute(_GRANTS)
    op.execute("SELECT make_sample_partitions(3)")


def downgrade() -> None:
    for signature in reversed(list(_FUNCTIONS)):
        op.execute(f"DROP FUNCTION {signature}")
    op.execute("DROP TABLE latest")
    op.execute("DROP TABLE samples")
