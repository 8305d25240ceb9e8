# SPDX-License-Identifier: GPL-2.0-or-later
"""Named values beside the power, minutes and hours kept by SQL, closed days, shares of devices."""

from alembic import op

revision = "0003_scale"
down_revision = "0002_ledger"
branch_labels = None
depends_on = None

# A set of names is long and few: rows refer to it by number. Excluded by hash, for a unique btree
# has no room for the names of a PDU with 48 outlets.
_LAYOUTS = """
CREATE TABLE layouts (
    layout_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    names text[] NOT NULL,
    CONSTRAINT layouts_once EXCLUDE USING hash (names WITH =)
)"""

# No foreign key: its trigger would cost more than the row, and layouts are never deleted.
_SAMPLES = """
ALTER TABLE samples
    ADD COLUMN layout integer,
    ADD COLUMN vals real[],
    ADD COLUMN energy_source text NOT NULL DEFAULT ''"""

_LATEST = """
ALTER TABLE latest
    ADD COLUMN apparent_power_va integer,
    ADD COLUMN energy_wh bigint,
    ADD COLUMN layout integer,
    ADD COLUMN vals real[],
    ADD COLUMN energy_source text NOT NULL DEFAULT '',
    ADD COLUMN profile text NOT NULL DEFAULT '',
    ADD COLUMN sys_object_id text NOT NULL DEFAULT '',
    ADD COLUMN description text NOT NULL DEFAULT '',
    DROP CONSTRAINT latest_kind,
    ADD CONSTRAINT latest_kind CHECK (kind IN ('pdu', 'bmc', 'gpu'))"""

_ROLLUP = """
CREATE TABLE {table} (
    device text NOT NULL,
    start timestamptz NOT NULL,
    polls integer NOT NULL,
    readings integer NOT NULL,
    mean_power_w real,
    max_power_w integer,
    p95_power_w real,
    energy_wh double precision NOT NULL,
    energy_source text NOT NULL,
    covered_s real NOT NULL,
    PRIMARY KEY (device, start)
) PARTITION BY RANGE (start)"""

# Only ever inserted and deleted: a key would make storing wait for a roll-up under way.
_DUE = """
CREATE TABLE rollups_due (
    level text NOT NULL CONSTRAINT rollups_due_level CHECK (level IN ('minutes', 'hours')),
    start timestamptz NOT NULL
)"""

_CLOSED = """
CREATE TABLE closed_days (
    day date PRIMARY KEY,
    closed_at timestamptz NOT NULL DEFAULT now(),
    bytes_before bigint NOT NULL,
    bytes_after bigint NOT NULL
)"""

_COLLECTORS = """
CREATE TABLE collectors (
    collector text PRIMARY KEY,
    name text NOT NULL,
    expires_at timestamptz NOT NULL
)"""

_SHARES = """
CREATE TABLE device_shares (
    share integer PRIMARY KEY,
    holder text,
    epoch bigint NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT '-infinity'
)"""

_DEFINER = "SECURITY DEFINER SET search_path = public, pg_temp"

_LAYOUT_NUMBER = f"""
CREATE FUNCTION layout_number(wanted text[]) RETURNS integer LANGUAGE plpgsql {_DEFINER} AS $$
DECLARE
    found integer;
BEGIN
    SELECT layout_id INTO found FROM layouts WHERE names = wanted;
    IF found IS NULL THEN
        INSERT INTO layouts (names) VALUES (wanted) ON CONFLICT DO NOTHING;
        SELECT layout_id INTO found FROM layouts WHERE names = wanted;
    END IF;
    RETURN found;
END $$"""

# Months of minutes, years of hours: few partitions, however long they are kept.
_ROLLUP_PARTITION = f"""
CREATE FUNCTION make_rollup_partition(level text, at timestamptz) RETURNS void
LANGUAGE plpgsql {_DEFINER} AS $$
DECLARE
    unit text := CASE level WHEN 'minutes' THEN 'month' WHEN 'hours' THEN 'year' END;
    first timestamp := date_trunc(unit, at AT TIME ZONE 'UTC');
    name text := level || '_'
        || to_char(first, CASE unit WHEN 'month' THEN 'YYYYMM' ELSE 'YYYY' END);
BEGIN
    IF first IS NULL THEN
        RAISE EXCEPTION 'make_rollup_partition: % at %, expected minutes or hours', level, at;
    END IF;
    IF to_regclass('public.' || name) IS NULL THEN
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS public.%I PARTITION OF public.%I '
            'FOR VALUES FROM (%L) TO (%L)',
            name, level, first AT TIME ZONE 'UTC',
            (first + ('1 ' || unit)::interval) AT TIME ZONE 'UTC');
    END IF;
END $$"""

# A reading holds until the device's next one, at most `hold`; so a bucket looks back by that much.
# Energy is the counter's where every reading of the bucket has one and none goes back.
# One device at a time along the key's index, which OFFSET 0 makes sure of.
_ROLL_UP_ONE = f"""
CREATE FUNCTION roll_up_one(level text, bucket timestamptz, hold interval) RETURNS void
LANGUAGE plpgsql {_DEFINER} SET jit = off AS $$
BEGIN
    PERFORM make_rollup_partition(level, bucket);
    EXECUTE format($sql$
        INSERT INTO %I AS kept
        SELECT l.device, $1, r.polls, r.readings, r.mean_w, r.max_w, r.p95_w,
               CASE WHEN r.counted THEN r.counter_wh ELSE r.integrated_wh END,
               CASE WHEN r.counted THEN 'counter'
                    WHEN r.covered_s > 0 THEN 'integrated' ELSE '' END,
               r.covered_s
        FROM latest l CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE polled_at >= $1) AS polls,
                   count(*) FILTER (WHERE inside) AS readings,
                   avg(active_power_w) FILTER (WHERE inside) AS mean_w,
                   max(active_power_w) FILTER (WHERE inside) AS max_w,
                   percentile_cont(0.95) WITHIN GROUP (ORDER BY active_power_w)
                       FILTER (WHERE inside) AS p95_w,
                   coalesce(sum(held_s * active_power_w), 0) / 3600 AS integrated_wh,
                   coalesce(sum(held_s), 0) AS covered_s,
                   sum(step_wh) FILTER (WHERE inside) AS counter_wh,
                   coalesce(bool_and(step_wh >= 0 AND step_wh IS NOT NULL)
                       FILTER (WHERE inside), false) AS counted
            FROM (
                SELECT s.*, believed AND polled_at >= $1 AS inside,
                       CASE WHEN believed THEN greatest(0, extract(epoch FROM
                           least(lead(polled_at) OVER (PARTITION BY believed ORDER BY polled_at),
                                 polled_at + $3, $2) - greatest(polled_at, $1)))::float8
                       END AS held_s,
                       CASE WHEN energy_source = 'counter' THEN energy_wh
                           - lag(energy_wh) OVER (PARTITION BY believed, energy_source
                                                  ORDER BY polled_at)
                       END AS step_wh
                FROM (
                    SELECT polled_at, active_power_w, energy_wh, energy_source,
                           active_power_w IS NOT NULL
                               AND quality IN ('good', 'estimated') AS believed
                    FROM samples
                    WHERE device = l.device AND polled_at >= $1 - $3 AND polled_at < $2
                    OFFSET 0
                ) s
            ) held
        ) r
        WHERE r.polls > 0 OR r.covered_s > 0
        ON CONFLICT (device, start) DO UPDATE SET
            polls = excluded.polls, readings = excluded.readings,
            mean_power_w = excluded.mean_power_w, max_power_w = excluded.max_power_w,
            p95_power_w = excluded.p95_power_w, energy_wh = excluded.energy_wh,
            energy_source = excluded.energy_source, covered_s = excluded.covered_s
        WHERE (kept.*) IS DISTINCT FROM (excluded.*)
        $sql$, level)
    USING bucket, bucket + CASE level WHEN 'minutes' THEN interval '1 minute'
                                      ELSE interval '1 hour' END, hold;
END $$"""

# Due is what got samples since it was rolled up last; a late one changes what follows it within
# `hold` too. Buckets lie on a grid of UTC, whatever the session's time zone. The delete comes
# before the samples are read: what is stored meanwhile leaves a mark of its own.
_ROLL_UP = f"""
CREATE FUNCTION roll_up(level text, closed timestamptz, hold_s double precision, at_most integer)
RETURNS integer LANGUAGE plpgsql {_DEFINER} AS $$
DECLARE
    width interval := CASE level WHEN 'minutes' THEN interval '1 minute'
                                 WHEN 'hours' THEN interval '1 hour' END;
    hold interval := make_interval(secs => hold_s);
    marked timestamptz[];
    due timestamptz[];
    bucket timestamptz;
BEGIN
    IF width IS NULL OR hold_s IS NULL OR hold_s < 0 OR hold_s > 3600 THEN
        RAISE EXCEPTION 'roll_up: level % and hold % s, expected minutes or hours and 0 to 3600 s',
            level, hold_s;
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtext('power_broker roll_up')) THEN
        RETURN 0;  -- another collector is at it
    END IF;
    WITH gone AS (
        DELETE FROM rollups_due d WHERE d.level = roll_up.level AND d.start IN (
            SELECT DISTINCT e.start FROM rollups_due e
            WHERE e.level = roll_up.level AND e.start + width <= closed
            ORDER BY e.start LIMIT at_most)
        RETURNING d.start)
    SELECT array_agg(DISTINCT gone.start) INTO marked FROM gone;
    IF marked IS NULL THEN
        RETURN 0;
    END IF;
    SELECT array_agg(DISTINCT each ORDER BY each) INTO due
    FROM unnest(marked) AS mark, generate_series(mark, mark + CASE level WHEN 'minutes'
        THEN width + hold - interval '1 microsecond' ELSE interval '0' END, width) AS each;
    FOREACH bucket IN ARRAY due LOOP
        IF bucket + width <= closed THEN
            PERFORM roll_up_one(level, bucket, hold);
            IF level = 'minutes' THEN
                INSERT INTO rollups_due VALUES ('hours', date_bin('1 hour', bucket, 'epoch'));
            END IF;
        ELSE
            INSERT INTO rollups_due VALUES (level, bucket);
        END IF;
    END LOOP;
    RETURN cardinality(due);
END $$"""

_DROP_ROLLUPS = f"""
CREATE FUNCTION drop_rollup_partitions(keep_minutes_days integer, keep_hours_days integer)
RETURNS integer LANGUAGE plpgsql {_DEFINER} AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    old record;
    dropped integer := 0;
BEGIN
    IF least(keep_minutes_days, keep_hours_days) < 2
       OR keep_minutes_days IS NULL OR keep_hours_days IS NULL THEN
        RAISE EXCEPTION 'drop_rollup_partitions: % and % days kept, expected 2 or more',
            keep_minutes_days, keep_hours_days;
    END IF;
    FOR old IN
        SELECT relname FROM (
            SELECT c.relname, CASE i.inhparent
                WHEN 'public.minutes'::regclass THEN today - keep_minutes_days >=
                    to_date(substr(c.relname, 9) || '01', 'YYYYMMDD') + interval '1 month'
                ELSE today - keep_hours_days >=
                    to_date(substr(c.relname, 7) || '0101', 'YYYYMMDD') + interval '1 year'
                END AS is_old
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE (i.inhparent = 'public.minutes'::regclass AND c.relname ~ '^minutes_[0-9]{{6}}$')
               OR (i.inhparent = 'public.hours'::regclass AND c.relname ~ '^hours_[0-9]{{4}}$')
        ) partitions WHERE is_old
    LOOP
        EXECUTE format('DROP TABLE public.%I', old.relname);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$"""

# In the key's order a device's day lies together: reports read few pages, and both table and index
# are as dense as they get. One day a call, for its partition is locked meanwhile.
_CLOSE_DAY = f"""
CREATE FUNCTION close_sample_day(settled_for interval) RETURNS date
LANGUAGE plpgsql {_DEFINER}
SET lock_timeout = '5s' SET maintenance_work_mem = '256MB' AS $$
DECLARE
    old record;
    bytes_before bigint;
BEGIN
    SELECT c.oid, c.relname, to_date(substr(c.relname, 9), 'YYYYMMDD') AS day, k.relname AS key
    INTO old
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    JOIN pg_index x ON x.indrelid = c.oid AND x.indisprimary JOIN pg_class k ON k.oid = x.indexrelid
    WHERE i.inhparent = 'public.samples'::regclass AND c.relname ~ '^samples_[0-9]{{8}}$'
      AND to_date(substr(c.relname, 9), 'YYYYMMDD') + 1
          <= (now() - greatest(settled_for, interval '0')) AT TIME ZONE 'UTC'
      AND NOT EXISTS (
          SELECT FROM closed_days d WHERE d.day = to_date(substr(c.relname, 9), 'YYYYMMDD'))
    ORDER BY c.relname LIMIT 1;
    IF old IS NULL OR NOT pg_try_advisory_xact_lock(hashtext('power_broker close')) THEN
        RETURN NULL;
    END IF;
    bytes_before := pg_total_relation_size(old.oid);
    EXECUTE format('CLUSTER public.%I USING %I', old.relname, old.key);
    EXECUTE format('ANALYZE public.%I', old.relname);
    INSERT INTO closed_days (day, bytes_before, bytes_after)
    VALUES (old.day, bytes_before, pg_total_relation_size(old.oid))
    ON CONFLICT DO NOTHING;
    RETURN old.day;
END $$"""

# Whoever is alive gets an equal part. What another held is taken only after its lease ran out, and
# by one that has itself seen the database all that time (`may_take_over`): after an outage of the
# database everybody's lease has run out, and everybody is still polling.
_HOLD_SHARES = f"""
CREATE FUNCTION hold_shares(
    me text, my_name text, shares integer, lease_s double precision, may_take_over boolean,
    OUT held integer[], OUT quota integer, OUT others integer
) LANGUAGE plpgsql {_DEFINER} AS $$
DECLARE
    until timestamptz;
BEGIN
    IF shares IS NULL OR shares NOT BETWEEN 1 AND 4096
       OR lease_s IS NULL OR lease_s NOT BETWEEN 1 AND 3600 THEN
        RAISE EXCEPTION 'hold_shares: % shares for % s', shares, lease_s;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('power_broker shares'));
    until := clock_timestamp() + make_interval(secs => lease_s);
    INSERT INTO collectors VALUES (me, my_name, until)
    ON CONFLICT (collector) DO UPDATE SET name = excluded.name, expires_at = excluded.expires_at;
    DELETE FROM collectors WHERE expires_at < clock_timestamp() - interval '1 hour';
    SELECT count(*) INTO others FROM collectors
    WHERE expires_at > clock_timestamp() AND collector <> me;
    quota := ceil(shares::numeric / (others + 1));
    INSERT INTO device_shares (share) SELECT generate_series(0, shares - 1) ON CONFLICT DO NOTHING;
    UPDATE device_shares s SET expires_at = until,
        epoch = epoch + (s.expires_at <= clock_timestamp())::integer
    WHERE holder = me;
    UPDATE device_shares s SET holder = me, epoch = epoch + 1, expires_at = until
    WHERE s.share IN (
        SELECT t.share FROM device_shares t
        WHERE t.share < shares AND (t.holder IS NULL OR (
            may_take_over AND t.holder <> me AND t.expires_at <= clock_timestamp()))
        ORDER BY t.share
        LIMIT greatest(quota - (SELECT count(*) FROM device_shares WHERE holder = me), 0));
    SELECT coalesce(array_agg(share ORDER BY share), '{{}}') INTO held
    FROM device_shares WHERE holder = me AND share < shares;
END $$"""

_RELEASE_SHARES = f"""
CREATE FUNCTION release_shares(me text, given_back integer[], leaving boolean) RETURNS void
LANGUAGE plpgsql {_DEFINER} AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('power_broker shares'));
    UPDATE device_shares SET holder = NULL, expires_at = '-infinity'
    WHERE holder = me AND share = ANY (given_back);
    IF leaving THEN
        DELETE FROM collectors WHERE collector = me;
    END IF;
END $$"""

_FUNCTIONS = {
    "layout_number(text[])": _LAYOUT_NUMBER,
    "make_rollup_partition(text, timestamptz)": _ROLLUP_PARTITION,
    "roll_up_one(text, timestamptz, interval)": _ROLL_UP_ONE,
    "roll_up(text, timestamptz, double precision, integer)": _ROLL_UP,
    "drop_rollup_partitions(integer, integer)": _DROP_ROLLUPS,
    "close_sample_day(interval)": _CLOSE_DAY,
    "hold_shares(text, text, integer, double precision, boolean)": _HOLD_SHARES,
    "release_shares(text, integer[], boolean)": _RELEASE_SHARES,
}
_INNER = ("make_rollup_partition", "roll_up_one")

_TABLES = {
    "layouts": _LAYOUTS,
    "minutes": _ROLLUP.format(table="minutes"),
    "hours": _ROLLUP.format(table="hours"),
    "rollups_due": _DUE,
    "closed_days": _CLOSED,
    "collectors": _COLLECTORS,
    "device_shares": _SHARES,
}


def _grants() -> str:
    executable = "".join(
        f"GRANT EXECUTE ON FUNCTION {each} TO powercollect;\n"
        for each in _FUNCTIONS
        if not each.startswith(_INNER)
    )
    return f"""
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'powercollect') THEN
        GRANT INSERT ON rollups_due TO powercollect;
        {executable}
    END IF;
END $$"""


def upgrade() -> None:
    for statement in (*_TABLES.values(), _SAMPLES, _LATEST):
        op.execute(statement)
    for signature, statement in _FUNCTIONS.items():
        op.execute(statement)
        op.execute(f"REVOKE EXECUTE ON FUNCTION {signature} FROM PUBLIC")
    op.execute(_grants())


def downgrade() -> None:
    for signature in reversed(list(_FUNCTIONS)):
        op.execute(f"DROP FUNCTION {signature}")
    for table in reversed(list(_TABLES)):
        op.execute(f"DROP TABLE {table}")
    op.execute("ALTER TABLE samples DROP layout, DROP vals, DROP energy_source")
    op.execute("DELETE FROM latest WHERE kind = 'gpu'")
    op.execute("""
        ALTER TABLE latest DROP apparent_power_va, DROP energy_wh, DROP layout, DROP vals,
            DROP energy_source, DROP profile, DROP sys_object_id, DROP description,
            DROP CONSTRAINT latest_kind,
            ADD CONSTRAINT latest_kind CHECK (kind IN ('pdu', 'bmc'))""")
