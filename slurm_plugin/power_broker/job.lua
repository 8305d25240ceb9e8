-- SPDX-License-Identifier: GPL-2.0-or-later
-- Between Slurm's job tables and our request: what is unset reads nil here.
local json = require("power_broker.json")
local text = require("power_broker.text")

local job = {}

local NO_VAL, INFINITE = 4294967294, 4294967295
local NO_VAL16, INFINITE16 = 65534, 65535
local MOST_ADMIN_COMMENT_BYTES = 1024

-- Slurm's fields are 32 or 16 bits wide and say "unset" in their own width.
local function wide(value)
    value = tonumber(value)
    if value == nil or value == NO_VAL then return nil end
    return value
end

local function narrow(value)
    value = tonumber(value)
    if value == nil or value == NO_VAL16 or value == INFINITE16 or value >= NO_VAL then return nil end
    return value
end

local function said(value)
    if value == nil or value == "" then return nil end
    return value
end

job.wide, job.said = wide, said

-- Slurm's own default, so that a job without -p is judged where it will run.
local function default_partition(part_list)
    for name, part in pairs(part_list or {}) do
        if tonumber(part.flag_default) == 1 then return name end
    end
    return nil
end

local function cpus_per_node(part_list, partition)
    local part = part_list and part_list[text.words(partition)[1] or ""]
    local cpus, nodes = part and wide(part.total_cpus), part and wide(part.total_nodes)
    if not cpus or not nodes or nodes < 1 or cpus < nodes then return nil end
    return math.floor(cpus / nodes)
end

function job.request(job_desc, part_list)
    local partition = said(job_desc.partition) or default_partition(part_list)
    local component = wide(job_desc.het_job_offset)
    return {
        comment = said(job_desc.comment),
        user = said(job_desc.user_name),
        account = said(job_desc.account) or said(job_desc.default_account),
        partition = partition,
        reservation = said(job_desc.reservation),
        licenses = said(job_desc.licenses),
        min_nodes = wide(job_desc.min_nodes),
        num_tasks = wide(job_desc.num_tasks),
        ntasks_per_node = narrow(job_desc.ntasks_per_node),
        cpus_per_task = narrow(job_desc.cpus_per_task),
        min_cpus = wide(job_desc.min_cpus),
        tres_per_node = said(job_desc.tres_per_node),
        tres_per_job = said(job_desc.tres_per_job),
        tres_per_task = said(job_desc.tres_per_task),
        cpus_per_node = cpus_per_node(part_list, partition),
        time_limit_min = wide(job_desc.time_limit),
        batch = said(job_desc.script) ~= nil,
        requeue = narrow(job_desc.requeue) ~= 0, -- unset: JobRequeue, on unless the site says no
        het = component ~= nil,
    }
end

-- The job as it would be after an update: what is asked, over what is there.
-- job_rec.script is a file that slurmctld would have to read: never touched.
function job.request_after(job_desc, job_rec, part_list)
    local function either(name, read, recorded)
        local asked = read(job_desc[name])
        if asked ~= nil then return asked end
        return read(job_rec[recorded or name])
    end
    local partition = either("partition", said)
    return {
        comment = job_desc.comment ~= nil and said(job_desc.comment)
            or job_desc.comment == nil and said(job_rec.comment) or nil,
        user = said(job_rec.user_name),
        account = either("account", said),
        partition = partition,
        reservation = either("reservation", said, "resv_name"),
        licenses = either("licenses", said),
        min_nodes = either("min_nodes", wide),
        cpus_per_node = cpus_per_node(part_list, partition),
        batch = true,
        requeue = true,
        het = (wide(job_rec.het_job_id) or 0) > 0,
        stay = true,
    }
end

-- The admitted envelope as one JSON object; what the site wrote there before is kept as a note.
function job.admin_comment(ticket, decision, earlier)
    local figures = decision.figures or {}
    local parts = { { "v", 1 }, { "ticket", ticket } }
    local function add(key, value)
        if value ~= nil then parts[#parts + 1] = { key, value } end
    end
    add("lane", decision.lane)
    add("tier", decision.tier)
    add("est_w", figures.est_w)
    add("max_w", figures.max_w)
    add("charge_w", figures.charge_w)
    add("tokens_w_per_node", figures.tokens_w_per_node)
    add("nodes", figures.nodes)
    add("reason", decision.reason)
    if decision.verdict == "hold" then add("held", true) end
    local plain = json.object(parts)
    if not said(earlier) or string.find(earlier, '"ticket":"', 1, true) then return plain end
    add("note", earlier)
    local noted = json.object(parts)
    return #noted <= MOST_ADMIN_COMMENT_BYTES and noted or plain
end

function job.write(job_desc, decision, admin_comment)
    job_desc.licenses = decision.licenses
    job_desc.admin_comment = admin_comment
    if decision.partition then job_desc.partition = decision.partition end
    if decision.reservation then job_desc.reservation = decision.reservation end
    if decision.fix_nodes then
        job_desc.min_nodes = decision.figures.nodes
        job_desc.max_nodes = decision.figures.nodes
    end
    if decision.verdict == "hold" then job_desc.priority = 0 end
end

return job
