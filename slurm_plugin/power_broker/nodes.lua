-- SPDX-License-Identifier: GPL-2.0-or-later
-- How many nodes a job will get at least, from what its user typed. Nodes are exclusive.
local text = require("power_broker.text")
local refusal = require("power_broker.refusal")

local nodes = {}

local function cannot_tell(why)
    refusal.raise("NotSupported",
        "the number of nodes cannot be worked out (" .. why .. "); give -N")
end

-- `:8`, `=8`, `:h100:8`, `:h100` or nothing, after the word gpu; nil: not understood.
local function count_in(rest)
    local bare = string.match(rest, "^[:=](%d+)$")
    local typed = string.match(rest, "^[:=/][A-Za-z][A-Za-z0-9_.-]*[:=](%d+)$")
    local count = bare or typed
    if count then return #count <= 6 and tonumber(count) or nil end
    if rest == "" or string.find(rest, "^[:=/][A-Za-z][A-Za-z0-9_.-]*$") then return 1 end
    return nil
end

-- GPUs in `gres/gpu:8`, `gres:gpu:h100:8`, `cpu=4,gres/gpu=2`; none is 0.
function nodes.gpus(tres)
    local total = 0
    for _, item in ipairs(text.words(tres)) do
        local bare = string.match(item, "^gres[:/](.*)$") or item
        local rest = string.match(bare, "^gpu(.*)$")
        if rest and (rest == "" or string.find(rest, "^[:=/]")) then
            total = total + (count_in(rest) or cannot_tell("the GPU request is not understood"))
        end
    end
    return total
end

local function for_tasks(request, node_type)
    local least, tasks = 1, request.num_tasks or 0
    if tasks > 0 and (request.ntasks_per_node or 0) > 0 then
        least = math.ceil(tasks / request.ntasks_per_node)
    end
    local wanted = math.max(request.min_cpus or 0, tasks * (request.cpus_per_task or 1))
    if wanted > 1 then
        local cpus = node_type.cpus > 0 and node_type.cpus or request.cpus_per_node or 0
        if cpus < 1 then cannot_tell("CPUs of a node are not known") end
        least = math.max(least, math.ceil(wanted / cpus))
    end
    return least
end

local function for_gpus(request, node_type)
    local asked, per_task = nodes.gpus(request.tres_per_job), nodes.gpus(request.tres_per_task)
    nodes.gpus(request.tres_per_node) -- nothing to count, but it must be readable
    if per_task > 0 and (request.num_tasks or 0) < 1 then
        cannot_tell("GPUs per task without a number of tasks")
    end
    asked = math.max(asked, per_task * (request.num_tasks or 0))
    if asked == 0 then return 1 end
    if node_type.gpus < 1 then cannot_tell("GPUs of a node are not known") end
    return math.ceil(asked / node_type.gpus)
end

-- The fewest nodes the job may get, and whether that had to be worked out.
function nodes.count(request, node_type)
    if request.min_nodes then
        if request.min_nodes < 1 then
            refusal.raise("NotSupported", "a job without nodes has no power; ask -N 1 or more")
        end
        return request.min_nodes, false
    end
    return math.max(for_tasks(request, node_type), for_gpus(request, node_type)), true
end

return nodes
