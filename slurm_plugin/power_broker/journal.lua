-- SPDX-License-Identifier: GPL-2.0-or-later
-- What is left behind: one line in the spool per verdict, and log lines that cannot flood.
local json = require("power_broker.json")

local journal = {}

local A_MINUTE_S = 60
local last_said = {}

-- Trouble repeats with every job: say each kind once a minute.
function journal.complain(kind, message, now)
    if last_said[kind] and now - last_said[kind] < A_MINUTE_S and now >= last_said[kind] then return end
    last_said[kind] = now
    slurm.log_info("%s", "power-broker: " .. message)
end

function journal.forget()
    last_said = {}
end

local function append(path, line)
    local file, why = io.open(path, "a")
    if not file then return why end
    local ok, failed = file:write(line, "\n")
    file:close()
    if not ok then return failed end
    return nil
end

-- facts: ticket, at, user, uid, account, partition, job_name, message, generation, call, job_id.
function journal.spool(path, facts, decision)
    local figures = decision.figures or {}
    local why = append(path, json.object({
        { "v", 1 }, { "ticket", facts.ticket }, { "at", facts.at },
        { "user", facts.user }, { "uid", facts.uid }, { "account", facts.account },
        { "partition", facts.partition }, { "job_name", facts.job_name },
        { "verdict", decision.verdict }, { "reason", decision.reason },
        { "lane", decision.lane }, { "tier", decision.tier },
        { "est_w", figures.est_w }, { "max_w", figures.max_w }, { "charge_w", figures.charge_w },
        { "tokens_w_per_node", figures.tokens_w_per_node }, { "nodes", figures.nodes },
        { "message", facts.message }, { "generation", facts.generation },
        { "call", facts.call }, { "job_id", facts.job_id },
    }))
    if why then
        journal.complain("spool", "verdicts are not recorded, cannot append to " .. path .. ": " .. why, facts.at)
    end
end

return journal
