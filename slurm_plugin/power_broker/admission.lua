-- SPDX-License-Identifier: GPL-2.0-or-later
-- What happens to a job that asks for watts: a pure function of (request, state, now).
-- broker/domain/admission.py is the same in Python; one table of cases and random input run
-- through both (tests/unit/hook), so change them together.
local envelope = require("power_broker.envelope")
local licenses = require("power_broker.licenses")
local nodes = require("power_broker.nodes")
local placement = require("power_broker.placement")
local refusal = require("power_broker.refusal")
local states = require("power_broker.state")
local text = require("power_broker.text")

local admission = {}

local SOON_S = 600 -- a pending reservation that starts within this time already takes its owner's jobs

-- what the job is ---------------------------------------------------------------------------------

local function partitions_of(request, state)
    if request.partition and request.partition ~= "" then return text.words(request.partition) end
    local hot = states.lane(state, "hot") or state.lanes[1]
    return { hot.partition }
end

local function lane_among(state, partitions)
    for _, lane in ipairs(state.lanes) do
        if text.has(partitions, lane.partition) then return lane end
    end
    return nil
end

-- One node type that is never better than the real one: charged most, least idle taken off.
local function widest(state, partitions)
    local found
    for _, each in ipairs(state.node_types) do
        local shared = false
        for _, name in ipairs(each.partitions) do shared = shared or text.has(partitions, name) end
        if shared then
            found = found or { idle_w = each.idle_w, max_w = 0, gpus = 0, cpus = 0 }
            found.idle_w = math.min(found.idle_w, each.idle_w)
            found.max_w = math.max(found.max_w, each.max_w)
            found.gpus = math.max(found.gpus, each.gpus)
            found.cpus = math.max(found.cpus, each.cpus)
        end
    end
    return found
end

-- Everything that does not depend on what is free; nil: the partition carries no power.
local function work_out(request, state)
    local partitions = partitions_of(request, state)
    local lane, node_type = lane_among(state, partitions), widest(state, partitions)
    if not lane or not node_type then return nil end
    if request.het then
        refusal.raise("NotSupported",
            "heterogeneous jobs cannot be charged for power yet; submit the parts as jobs")
    end
    local others = licenses.others(request.licenses)
    local found = envelope.parse(request.comment)
    local asked, worked_out = nodes.count(request, node_type)
    local figures = envelope.complete(found, asked, node_type, state.classes)
    local declared = found or {}
    return {
        request = request,
        envelope = declared,
        lane = lane,
        only_partition = #partitions == 1,
        tier = declared.tier or lane.tier_default,
        figures = figures,
        tokens_w = figures.tokens_w_per_node,
        headroom_w = declared.headroom_w or 0,
        licenses = licenses.with_tokens(others, figures.tokens_w_per_node),
        fix_nodes = worked_out,
    }
end

-- sentences ---------------------------------------------------------------------------------------

local function charged(job)
    return "charged " .. text.kilowatts(job.figures.charge_w) .. " on " .. text.nodes(job.figures.nodes)
        .. " (" .. text.watts(job.tokens_w) .. " tokens a node)"
end

local function decision(job, verdict, reason, fits, message)
    return {
        verdict = verdict, reason = reason, fits = fits, message = "power: " .. message,
        lane = job.lane.name, tier = job.tier, figures = job.figures,
        licenses = job.licenses, fix_nodes = job.fix_nodes,
    }
end

local function accepted(job, reason, fits, what, ending)
    local message = "job " .. what .. ": " .. charged(job) .. ", " .. ending
    return decision(job, "accept", reason, fits, message)
end

function admission.rejected(refused)
    return {
        verdict = "reject", reason = refused.reason, fits = refused.fits,
        message = "power: job rejected: " .. refused.because,
    }
end

-- The site's wish for a job that cannot be judged: hold, reject or accept.
local function unjudged(job, why, wish)
    if wish == "reject" then refusal.raise("StateMissing", why .. "; try again later", "later") end
    if wish == "accept" then
        return accepted(job, "StateMissing", "later", "accepted", "not checked: " .. why)
    end
    local message = "job accepted but held: " .. why .. "; " .. charged(job) .. ", the broker releases it"
    return decision(job, "hold", "StateMissing", "later", message)
end

local function too_old(job, age_s, limit_s, wish)
    local why = "the power state is " .. text.whole(age_s) .. " s old (limit " .. text.whole(limit_s) .. " s)"
    return unjudged(job, why, wish)
end

-- where it fits -----------------------------------------------------------------------------------

local function place_in_pool(job, pool)
    local asked, tokens_w = job.figures.nodes, job.figures.nodes * job.tokens_w
    if asked > pool.node_count or tokens_w > pool.tokens_ever_w then
        refusal.raise("ExceedsSafeLimit",
            text.nodes(asked) .. " at " .. text.watts(job.tokens_w)
            .. " of tokens each can never run in reservation " .. pool.slurm .. ", which has "
            .. text.nodes(pool.node_count) .. " and " .. text.watts(pool.tokens_ever_w))
    end
    local where = "accepted in reservation " .. pool.slurm
    if pool.state == "active" and tokens_w <= pool.tokens_now_w then
        return accepted(job, "Fits", "now", where, "fits now")
    end
    local waits = "waits: " .. text.watts(tokens_w) .. " of tokens asked, "
        .. text.watts(math.max(0, pool.tokens_now_w)) .. " free there"
    if pool.state ~= "active" then waits = "waits: the reservation is " .. pool.state end
    return accepted(job, "Waits", "later", where, waits)
end

local function owns(request, pool)
    return text.has(pool.accounts, request.account) or text.has(pool.users, request.user)
end

local function can_take(pool, job, now)
    local limit_min = job.request.time_limit_min
    local soon = pool.state == "pending" and pool.start_at <= now + SOON_S
    if not (pool.state == "active" or soon) then return false end
    if limit_min and math.max(now, pool.start_at) + 60 * limit_min > pool.end_at then return false end
    return job.figures.nodes <= pool.node_count
        and job.figures.nodes * job.tokens_w <= pool.tokens_now_w
end

-- The first reservation of the job's owner that can take it: its watts are meant for that.
local function own_pool(job, state, now)
    for _, pool in ipairs(state.reservations) do
        if owns(job.request, pool) and can_take(pool, job, now) then return pool end
    end
    return nil
end

local function into_pool(job, pool)
    local when = pool.state == "active" and "fits now" or "starts with it"
    local made = accepted(job, "ToReservation", "now", "put into your reservation " .. pool.slurm, when)
    made.verdict, made.reservation = "reroute", pool.slurm
    return made
end

local function refuse_the_impossible(job, state)
    local asked, there = job.figures.nodes, placement.nodes(state)
    if asked > there then
        refusal.raise("ExceedsSafeLimit",
            text.nodes(asked) .. " asked, " .. text.nodes(there) .. " are under power")
    end
    local ever = placement.hosts(state, job.tokens_w, job.headroom_w, "ever")
    if asked <= ever then return end
    local beside = ""
    if job.headroom_w > 0 then
        beside = " beside a headroom of " .. text.watts(job.headroom_w) .. " a rack"
    end
    refusal.raise("ExceedsSafeLimit",
        text.nodes(asked) .. " at " .. text.watts(job.tokens_w) .. " of tokens each" .. beside
        .. " can never run at once: the safe limits of racks, rows and site allow " .. text.nodes(ever))
end

local function why_it_waits(job, state)
    local hosts = placement.hosts(state, job.tokens_w, job.headroom_w, "now")
    if job.figures.nodes > hosts then
        return "power for " .. text.whole(hosts) .. " of " .. text.nodes(job.figures.nodes) .. " now"
    end
    if job.figures.charge_w > job.lane.room_w then
        return "lane " .. job.lane.name .. " has room for "
            .. text.kilowatts(math.max(0, job.lane.room_w)) .. " now"
    end
    return nil
end

local function asked_for_a_reservation(job)
    return job.request.reservation ~= nil and job.request.reservation ~= ""
end

-- Only a new job in hot that asked for no place of its own is re-routed.
local function may_move(job)
    return job.lane.name == "hot" and not asked_for_a_reservation(job) and not job.request.stay
end

-- Gold is never preempted, and everything in cold may be.
local function may_go_cold(job, cold)
    return may_move(job) and job.envelope.preempt == true and job.tier ~= "gold"
        and job.request.batch and job.request.requeue and job.only_partition
        and cold.room_w >= job.figures.charge_w
end

local function into_cold(job, cold, waits)
    job.lane, job.tier = cold, job.envelope.tier or cold.tier_default
    local made = accepted(job, "ToCold", "later", "re-routed to cold", "in hot it would wait: " .. waits)
    made.verdict, made.partition = "reroute", cold.partition
    return made
end

local function place(job, state, now)
    local named = asked_for_a_reservation(job) and states.pool(state, job.request.reservation)
    if named then return place_in_pool(job, named) end
    local own = may_move(job) and own_pool(job, state, now)
    if own then return into_pool(job, own) end
    refuse_the_impossible(job, state)
    local waits = why_it_waits(job, state)
    if not waits then
        return accepted(job, "Fits", "now", "accepted on " .. job.lane.name, "fits now")
    end
    local cold = states.lane(state, "cold")
    if cold and may_go_cold(job, cold) then return into_cold(job, cold, waits) end
    return accepted(job, "Waits", "later", "accepted on " .. job.lane.name, "waits: " .. waits)
end

-- the decision ------------------------------------------------------------------------------------

local function decide(request, state, now)
    local age_s, switches = math.abs(now - state.written_at), state.switches
    local job = work_out(request, state)
    if not job then return nil end
    if age_s > switches.missing_after_s then
        return too_old(job, age_s, switches.missing_after_s, switches.when_missing)
    end
    local stale = age_s > switches.stale_after_s
    if stale and (switches.when_stale == "hold" or switches.when_stale == "reject") then
        return too_old(job, age_s, switches.stale_after_s, switches.when_stale)
    end
    local made = place(job, state, now)
    if stale then
        made.reason = "StateStale"
        made.message = made.message .. " (by figures " .. text.whole(age_s) .. " s old)"
    end
    return made
end

local function refusals_as_verdicts(judge, ...)
    local ok, result = pcall(judge, ...)
    if ok then return result end
    if refusal.is(result) then return admission.rejected(result) end
    error(result, 0)
end

-- Judge a job by the last state the broker wrote; nil: its partition carries no power.
function admission.decide(request, state, now)
    return refusals_as_verdicts(decide, request, state, now)
end

local function without_figures(request, why)
    licenses.others(request.licenses) -- still refused in plain words
    envelope.parse(request.comment)
    return {
        verdict = "hold", reason = "StateMissing", fits = "later",
        licenses = licenses.others(request.licenses),
        message = "power: job accepted but held: " .. why .. ", the broker releases it",
    }
end

local function without_state(request, config, why)
    local partitions = request.partition and text.words(request.partition) or {}
    local node = config.node
    if not node then
        if config.when_missing == "reject" then
            refusal.raise("StateMissing", why .. "; try again later", "later")
        end
        return without_figures(request, why)
    end
    local lane = { name = "hot", partition = partitions[1] or "hot", tier_default = "silver", room_w = 0 }
    local job = work_out(request, {
        lanes = { lane }, classes = {},
        node_types = { {
            idle_w = node.idle_w, max_w = node.max_w, gpus = node.gpus or 0, cpus = node.cpus or 0,
            partitions = { lane.partition },
        } },
    })
    return unjudged(job, why, config.when_missing)
end

-- No state at all: the site's wish, from the table its own script passed.
function admission.decide_without_state(request, config, why)
    return refusals_as_verdicts(without_state, request, config, why)
end

return admission
