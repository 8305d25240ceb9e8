-- SPDX-License-Identifier: GPL-2.0-or-later
-- /etc/slurm/job_submit.lua: the site's own script. Keep your rules here and call ours last, on what
-- they made of the job. slurmctld loads this file again when its time of change moves, and the
-- modules with it: `touch` it after an update of them.
package.path = "/usr/local/lib/power-broker/lua/?.lua;" .. package.path

local power = require("power_broker").configure({
    when_missing = "hold", -- hold | reject | accept, while the broker's state cannot be read
    partitions = { "hot", "cold" }, -- under power; asked only while the state cannot be read
    node = { idle_w = 1000, max_w = 10200, gpus = 8 }, -- and what a node is charged then
})

function slurm_job_submit(job_desc, part_list, submit_uid)
    return power.submit(job_desc, part_list, submit_uid)
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
    return power.modify(job_desc, job_rec, part_list, modify_uid)
end

return slurm.SUCCESS
