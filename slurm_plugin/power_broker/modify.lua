-- SPDX-License-Identifier: GPL-2.0-or-later
-- What a job's owner may change once it is admitted: anything that keeps its promise of power.
local admission = require("power_broker.admission")
local envelope = require("power_broker.envelope")
local job = require("power_broker.job")
local licenses = require("power_broker.licenses")
local refusal = require("power_broker.refusal")
local text = require("power_broker.text")

local modify = {}

local PENDING = 0
local FINISHED = 3 -- and above
local ASKED = { "licenses", "comment", "partition", "reservation", "admin_comment" }
local PLACED = { "partition", "reservation", "min_nodes" }

local function state_of(job_rec)
    return (tonumber(job_rec.job_state) or PENDING) % 256 -- the rest are flags
end

-- scontrol release sends INFINITE; NO_VAL is "not asked".
local function asks_to_run(job_desc)
    local priority = job.wide(job_desc.priority)
    return priority ~= nil and priority > 0
end

-- Whether an update can touch power at all; most cannot and pass without a look at the state.
function modify.concerns_power(job_desc)
    for _, name in ipairs(ASKED) do
        if job_desc[name] ~= nil then return true end
    end
    return job.wide(job_desc.min_nodes) ~= nil or asks_to_run(job_desc)
end

local function carries_power(job_rec)
    return licenses.has_tokens(job_rec.licenses)
        or string.find(job_rec.admin_comment or "", '"ticket":"', 1, true) ~= nil
end

local function is_held(job_rec)
    return tonumber(job_rec.priority) == 0
        and string.find(job_rec.admin_comment or "", '"held":true', 1, true) ~= nil
end

local function not_permitted(because)
    refusal.raise("NotPermitted", because)
end

-- An unreadable old comment promised nothing.
local function promised(comment)
    local ok, found = pcall(envelope.parse, comment)
    if ok then return found end
    if refusal.is(found) then return nil end
    error(found, 0)
end

local function changes_envelope(job_desc, job_rec)
    if job_desc.comment == nil then return false end
    return not envelope.same(envelope.parse(job_desc.comment), promised(job_rec.comment))
end

local function changes_place(job_desc, job_rec)
    for _, name in ipairs(PLACED) do
        local recorded = name == "reservation" and "resv_name" or name
        local asked = job_desc[name]
        if name == "min_nodes" then asked = job.wide(asked) end
        if asked ~= nil and asked ~= job_rec[recorded] then return true end
    end
    return false
end

local function guard_running(job_desc, job_rec)
    if job_desc.licenses ~= nil then
        not_permitted("the licences of a running job carry its power and cannot be changed")
    end
    if changes_envelope(job_desc, job_rec) then
        not_permitted("the power envelope of a running job cannot be changed")
    end
    -- Slurm forgets to give back the tokens of nodes that a running job leaves, until a reconfigure.
    local asked = job.wide(job_desc.min_nodes)
    if asked and asked ~= tonumber(job_rec.total_nodes) then
        not_permitted("the nodes of a running job carry its power and cannot be changed")
    end
    return nil
end

local function guard_tokens(job_desc)
    if job_desc.licenses == nil then return end
    if job_desc.licenses == "" then
        not_permitted("the licences of this job carry its power and cannot be cleared")
    end
    if licenses.has_tokens(job_desc.licenses) then
        not_permitted("licences=" .. text.shown(job_desc.licenses)
            .. ": power tokens are set by the broker; name other licences only")
    end
end

local function judged_again(job_desc, job_rec, part_list, state, now, why)
    if not state then
        refusal.raise("StateMissing", why .. ", so the change cannot be checked; try again later", "later")
    end
    local decision = admission.decide(job.request_after(job_desc, job_rec, part_list), state, now)
    -- A held job stays held whatever is changed about it, and says so.
    if decision and is_held(job_rec) and decision.verdict == "accept" then
        decision.verdict, decision.reason = "hold", "StateMissing"
    end
    return decision
end

-- The decision to write into the job, or nil: nothing about power changes. Raises refusals.
-- why: what is wrong where there is no state.
function modify.guard(job_desc, job_rec, part_list, state, now, why)
    if job_desc.admin_comment ~= nil then not_permitted("admin_comment is the broker's") end
    if is_held(job_rec) and asks_to_run(job_desc) then
        not_permitted("this job is held for power; the broker or an administrator releases it")
    end
    local now_state = state_of(job_rec)
    if now_state >= FINISHED then return nil end
    if carries_power(job_rec) then
        if now_state ~= PENDING then return guard_running(job_desc, job_rec) end
        guard_tokens(job_desc)
    elseif now_state ~= PENDING then
        return nil
    end
    -- Any comment counts: an update that Slurm refused halfway may have left one beside older tokens.
    local changed = job_desc.licenses ~= nil or job_desc.comment ~= nil
        or changes_place(job_desc, job_rec)
    if not changed then return nil end
    return judged_again(job_desc, job_rec, part_list, state, now, why)
end

return modify
