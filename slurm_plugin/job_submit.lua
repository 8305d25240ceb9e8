-- SPDX-License-Identifier: GPL-2.0-or-later
-- /etc/slurm/job_submit.lua: the site's own script. Keep your rules here and call ours last, on what
-- they made of the job. slurmctld loads this file again when its time of change moves, and the
-- modules with it: `touch` it after an update of them.
package.path = "/usr/local/lib/power-broker/lua/?.lua;" .. package.path

-- slurmctld does not start with a script that fails to load. Modules that are gone must not stop the
-- cluster, nor let jobs past the limits: they are held until the modules are back.
local function without_modules(why)
    slurm.log_error("%s", "power-broker: its modules cannot be loaded: " .. tostring(why))
    return {
        submit = function(job_desc)
            job_desc.priority = 0
            slurm.log_user("%s", "power: job accepted but held: the power check is not installed properly")
            return slurm.SUCCESS
        end,
        modify = function(_, _, _, uid) return uid == 0 and slurm.SUCCESS or slurm.ERROR end,
    }
end

local loaded, power = pcall(require, "power_broker")
if loaded then
    power.configure({
        when_missing = "hold", -- hold | reject | accept, while the broker's state cannot be read
        partitions = { "hot", "cold" }, -- under power; asked only while the state cannot be read
        node = { idle_w = 1000, max_w = 10200, gpus = 8 }, -- and what a node is charged then
    })
else
    power = without_modules(power)
end

function slurm_job_submit(job_desc, part_list, submit_uid)
    return power.submit(job_desc, part_list, submit_uid)
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
    return power.modify(job_desc, job_rec, part_list, modify_uid)
end

return slurm.SUCCESS
