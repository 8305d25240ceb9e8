-- SPDX-License-Identifier: GPL-2.0-or-later
-- The power broker's part of a site's job_submit.lua:
--
--     local power = require("power_broker")
--     function slurm_job_submit(...) return power.submit(...) end
--     function slurm_job_modify(...) return power.modify(...) end
--
-- It runs inside slurmctld under its locks: the only I/O is reading one small file and appending a
-- line to another. It never raises: an error of ours accepts the job, held, and says so in the log.
local admission = require("power_broker.admission")
local job = require("power_broker.job")
local journal = require("power_broker.journal")
local modifying = require("power_broker.modify")
local refusal = require("power_broker.refusal")
local states = require("power_broker.state")
local tickets = require("power_broker.ticket")

local power_broker = {}

local config = {
    state_file = "/run/power-broker/admission.state",
    spool = "/var/spool/power-broker/verdicts.jsonl",
    when_missing = "hold", -- hold | reject | accept; accept needs node
    partitions = nil, -- those under power, asked only while the state cannot be read; nil: all
    node = nil, -- { idle_w =, max_w =, gpus =, cpus = }: charged while the state cannot be read
    admin_uids = {}, -- may change power fields beside root and the state's own
    clock = os.time,
    ticket = tickets.new,
}

-- A switch in a file that cannot be read cannot be asked, and a cluster that only observes, or has
-- the broker off, must not start to hold jobs because the file is gone.
local last_mode

function power_broker.configure(wishes)
    for key, value in pairs(wishes) do config[key] = value end
    last_mode = nil
    return power_broker
end

local function read_state()
    local state, why = states.read(config.state_file)
    if state then last_mode = state.mode end
    return state, why and ("the power state cannot be read (" .. why .. ")")
end

local function enforcing(state)
    local mode = state and state.mode or last_mode
    return mode == nil or mode == "enforce"
end

local function under_power(partition)
    if not config.partitions or not partition then return true end
    for wanted in string.gmatch(partition, "[^,]+") do
        for _, ours in ipairs(config.partitions) do
            if ours == wanted then return true end
        end
    end
    return false
end

local function judge(request, state, why, now)
    if state then return admission.decide(request, state, now) end
    journal.complain("state", why .. ", jobs are dealt with as the site wishes", now)
    if not under_power(request.partition) then return nil end
    return admission.decide_without_state(request, config, why)
end

local function record(call, facts, request, decision, state)
    facts.call = call
    facts.user, facts.account = request.user, request.account
    facts.partition = decision.partition or request.partition
    facts.message = decision.message .. " [ticket " .. facts.ticket .. "]"
    facts.generation = state and state.generation
    journal.spool(config.spool, facts, decision)
end

local function submit(job_desc, part_list)
    local now = config.clock()
    local state, why = read_state()
    local watching = state and state.mode == "observe"
    if not watching and not enforcing(state) then return slurm.SUCCESS end
    local request = job.request(job_desc, part_list)
    local decision = judge(request, state, why, now)
    if not decision then return slurm.SUCCESS end
    local facts = { ticket = config.ticket(now), at = now, uid = job_desc.user_id, job_name = job_desc.name }
    record("submit", facts, request, decision, state)
    if watching then
        slurm.log_info("%s", "power-broker (observing): " .. facts.message)
        return slurm.SUCCESS
    end
    slurm.log_user("%s", facts.message)
    if decision.verdict == "reject" then return slurm.ERROR end
    job.write(job_desc, decision, job.admin_comment(facts.ticket, decision, job_desc.admin_comment))
    return slurm.SUCCESS
end

local function is_admin(state, uid)
    for _, list in ipairs({ config.admin_uids, state and state.admin_uids or {} }) do
        for _, admin in ipairs(list) do
            if admin == uid then return true end
        end
    end
    return false
end

local function guarded(...)
    local ok, result = pcall(modifying.guard, ...)
    if ok then return result end
    if refusal.is(result) then return admission.rejected(result) end
    error(result, 0)
end

local function ticket_of(job_rec, now)
    return string.match(job_rec.admin_comment or "", '"ticket":"([A-Z0-9-]+)"') or config.ticket(now)
end

local function modify(job_desc, job_rec, part_list, modify_uid)
    if modify_uid == 0 or not modifying.concerns_power(job_desc) then return slurm.SUCCESS end
    local now = config.clock()
    local state, why = read_state()
    if not enforcing(state) or is_admin(state, modify_uid) then return slurm.SUCCESS end
    local decision = guarded(job_desc, job_rec, part_list, state, now, why)
    if not decision then return slurm.SUCCESS end
    local refused = decision.verdict == "reject"
    decision.message = string.gsub(decision.message, "^power: job rejected", "power: change refused")
    decision.message = string.gsub(decision.message, "^power: job accepted", "power: change accepted")
    local request = job.request_after(job_desc, job_rec, part_list)
    local facts = {
        ticket = ticket_of(job_rec, now), at = now, uid = modify_uid,
        job_name = job_rec.name, job_id = job_rec.job_id,
    }
    record("modify", facts, request, decision, state)
    if refused then
        slurm.log_user("%s", facts.message)
        return slurm.ERROR
    end
    -- Nothing is said of a change that is accepted: scontrol would print it as an error.
    -- Slurm refuses an owner's update that carries an admin_comment, ours included, and by then it has
    -- already taken the new comment: the broker rewrites it, from the spool's line.
    job_desc.licenses = decision.licenses
    return slurm.SUCCESS
end

local function after_an_error(what, message)
    journal.complain("error", what .. " failed, a defect: " .. tostring(message), os.time())
end

-- Accept and hold: a defect of ours neither loses a job nor lets it past the limits.
function power_broker.submit(job_desc, part_list, submit_uid)
    local ok, result = pcall(submit, job_desc, part_list, submit_uid)
    if ok then return result end
    pcall(after_an_error, "submit", result)
    if enforcing(nil) then
        pcall(function()
            local ticket = config.ticket(os.time())
            job_desc.priority = 0
            job_desc.admin_comment = job.admin_comment(ticket, { reason = "StateMissing", verdict = "hold" })
            slurm.log_user("%s", "power: job accepted but held: the power check itself failed,"
                .. " the broker releases it [ticket " .. ticket .. "]")
        end)
    end
    return slurm.SUCCESS
end

-- A change that could not be checked is refused for owners: the job itself is untouched by that.
function power_broker.modify(job_desc, job_rec, part_list, modify_uid)
    local ok, result = pcall(modify, job_desc, job_rec, part_list, modify_uid)
    if ok then return result end
    pcall(after_an_error, "modify", result)
    if not enforcing(nil) then return slurm.SUCCESS end
    pcall(slurm.log_user, "%s", "power: change refused: the power check itself failed; try again later")
    return slurm.ERROR
end

return power_broker
