-- SPDX-License-Identifier: GPL-2.0-or-later
-- Runs cases through the hook as slurmctld would: lua driver.lua PLUGIN_DIR CASES_FILE
-- The cases are a Lua table written by tests/unit/hook/lua.py; one JSON answer a line.
package.path = arg[1] .. "/?.lua"

local said, logged
slurm = {
    SUCCESS = 0, ERROR = -1,
    log_user = function(...) said[#said + 1] = string.format(...) end,
    log_info = function(...) logged[#logged + 1] = string.format(...) end,
}

local envelope = require("power_broker.envelope")
local journal = require("power_broker.journal")
local power = require("power_broker")
local refusal = require("power_broker.refusal")

local function quoted(value)
    return '"' .. string.gsub(value, '[%c"\\\127-\255]', function(char)
        return string.format("\\u%04x", string.byte(char))
    end) .. '"'
end

local function encoded(value)
    if type(value) == "string" then return quoted(value) end
    if type(value) == "number" then return string.format("%.14g", value) end
    if type(value) ~= "table" then return tostring(value == nil and "null" or value) end
    local parts = {}
    if value[1] ~= nil or value.is_list then
        for _, each in ipairs(value) do parts[#parts + 1] = encoded(each) end
        return "[" .. table.concat(parts, ",") .. "]"
    end
    for key, each in pairs(value) do parts[#parts + 1] = quoted(key) .. ":" .. encoded(each) end
    return "{" .. table.concat(parts, ",") .. "}"
end

-- Slurm hands out proxies: reading calls C, writing an unknown field is an error in its log.
local WRITABLE = {
    licenses = true, admin_comment = true, partition = true, reservation = true,
    min_nodes = true, max_nodes = true, priority = true,
}

local function proxy(fields, written)
    return setmetatable({}, {
        __index = function(_, name)
            if fields.explode == name then error("a field that explodes") end
            return fields[name]
        end,
        __newindex = function(_, name, value)
            assert(WRITABLE[name], "not a writable field: " .. name)
            fields[name], written[name] = value, value
        end,
    })
end

local function hook(case)
    local written = {}
    said, logged = { is_list = true }, { is_list = true }
    if not case.keep_quiet then journal.forget() end
    local wishes = {
        state_file = case.state_file, spool = case.spool, when_missing = "hold", admin_uids = {},
        clock = function() return case.now end, ticket = function() return "PW-TEST" end,
    }
    for key, value in pairs(case.config or {}) do wishes[key] = value end
    if not case.keep_config then power.configure(wishes) end
    if case.without_file then os.remove(case.state_file) end
    local job_desc, rc = proxy(case.job, written), nil
    if case.rec then
        rc = power.modify(job_desc, proxy(case.rec, {}), case.part_list or {}, case.uid or 1001)
    else
        rc = power.submit(job_desc, case.part_list or {}, case.uid or 1001)
    end
    return { rc = rc, said = said, logged = logged, written = written }
end

local function parsed(case)
    local ok, found = pcall(envelope.parse, case.comment)
    if ok and found then return { envelope = found } end
    if ok then return { undeclared = true } end
    if refusal.is(found) then return { error = found.because } end
    return { crashed = tostring(found) }
end

local started = os.clock()
local cases = dofile(arg[2])
for _, case in ipairs(cases) do
    print(encoded(case.rehearse and parsed(case) or hook(case)))
end
io.stderr:write(string.format("%.3f\n", os.clock() - started))
