-- SPDX-License-Identifier: GPL-2.0-or-later
-- Reads admission.state: a line per record, `record key=value ...`, never executed.
-- Unknown records and keys are ignored; a torn or foreign file is refused as a whole.
local text = require("power_broker.text")

local state = {}

local VERSION = 1
local MOST_BYTES = 65536

local find, gmatch = string.find, string.gmatch -- looked up for each of some thousand fields

local function decoded(value)
    return (string.gsub(value, "%%(%x%x)", function(hex)
        return string.char(tonumber(hex, 16))
    end))
end

local function unreadable(why)
    error({ unreadable = why }, 0)
end

local function number(values, key, default)
    local value = values[key]
    if value == nil and default then return default end
    if value == nil or not find(value, "^%-?%d+$") or #value > 15 then
        unreadable(key .. "=" .. text.shown(value or "") .. " is not a whole number")
    end
    return tonumber(value)
end

local function share(values, key)
    local value = values[key] or "1"
    if #value > 20 or not string.find(value, "^%d+%.?%d*$") then
        unreadable(key .. "=" .. text.shown(value) .. " is not a share")
    end
    return tonumber(value)
end

local function word(values, key)
    if not values[key] or values[key] == "" then unreadable("a record without " .. key) end
    return values[key]
end

local function tokens(values, layer)
    layer.tokens_ever_w = number(values, "tokens_ever_w")
    layer.tokens_now_w = number(values, "tokens_now_w")
    return layer
end

local RECORDS = {
    switch = function(found, values)
        found.switches = {
            when_stale = values.when_stale or "grants",
            when_missing = values.when_missing or "hold",
            stale_after_s = number(values, "stale_after_s", 30),
            missing_after_s = number(values, "missing_after_s", 600),
        }
    end,
    lane = function(found, values)
        table.insert(found.lanes, {
            name = word(values, "name"),
            partition = word(values, "partition"),
            tier_default = values.tier_default or "silver",
            room_w = number(values, "room_w"),
        })
    end,
    nodetype = function(found, values)
        table.insert(found.node_types, {
            name = word(values, "name"),
            idle_w = number(values, "idle_w"),
            max_w = number(values, "max_w"),
            gpus = number(values, "gpus", 0),
            cpus = number(values, "cpus", 0),
            partitions = text.words(values.partitions),
        })
    end,
    class = function(found, values)
        table.insert(found.classes, {
            name = word(values, "name"),
            est_share = share(values, "est_share"),
            max_share = share(values, "max_share"),
        })
    end,
    layer = function(found, values)
        local layer = tokens(values, {
            name = word(values, "name"),
            kind = word(values, "kind"),
            nodes = number(values, "nodes"),
            nodes_now = number(values, "nodes_now", 0),
            parents = values.parents or "",
        })
        table.insert(layer.kind == "rack" and found.racks or found.upper, layer)
    end,
    reservation = function(found, values)
        table.insert(found.reservations, tokens(values, {
            slurm = word(values, "slurm"),
            accounts = text.words(values.accounts),
            users = text.words(values.users),
            node_count = number(values, "node_count"),
            start_at = number(values, "start", 0),
            end_at = number(values, "end", 0),
            state = values.state or "active",
        }))
    end,
    admins = function(found, values)
        for _, uid in ipairs(text.words(values.uids)) do
            found.admin_uids[#found.admin_uids + 1] = tonumber(uid)
        end
    end,
}

local function fields(line)
    local values = {}
    for key, value in gmatch(line, " ([%w_]+)=([^ ]*)") do values[key] = value end
    if find(line, "%", 1, true) then
        for key, value in pairs(values) do values[key] = decoded(value) end
    end
    return values
end

local function head(line)
    if not string.find(line or "", "^power%-broker%-admission ") then
        unreadable("it does not start with power-broker-admission")
    end
    local values = fields(line)
    if values.version ~= text.whole(VERSION) then
        unreadable("it has version " .. text.shown(values.version or "none"))
    end
    local mode = values.mode
    if mode ~= "enforce" and mode ~= "observe" and mode ~= "off" then
        unreadable("it has mode " .. text.shown(mode or "none"))
    end
    return {
        mode = mode,
        generation = number(values, "generation"),
        written_at = number(values, "written_at"),
        switches = { when_stale = "grants", when_missing = "hold", stale_after_s = 30, missing_after_s = 600 },
        lanes = {}, node_types = {}, classes = {}, racks = {}, upper = {},
        reservations = {}, admin_uids = {},
    }
end

-- Rows and sites by name; the site also under the word `site`.
local function upper_by_name(found)
    local by_name = {}
    for _, layer in ipairs(found.upper) do by_name[layer.name] = layer end
    for _, layer in ipairs(found.upper) do
        if layer.kind == "site" and not by_name.site then by_name.site = layer end
    end
    return by_name
end

local function resolve_parents(found)
    local by_name = upper_by_name(found)
    for _, rack in ipairs(found.racks) do
        rack.above = {}
        for name in gmatch(rack.parents, "[^,]+") do
            if by_name[name] then rack.above[#rack.above + 1] = by_name[name] end
        end
    end
end

local function build(content)
    local found, last
    for line in string.gmatch(content, "[^\n]+") do
        if not found then
            found = head(line)
        else
            local record = string.match(line, "^[%w_-]+")
            if RECORDS[record] then RECORDS[record](found, fields(line)) end
        end
        last = line
    end
    local ended = last and string.match(last, "^end generation=(%d+)$")
    if not found then unreadable("it is empty") end
    if ended ~= text.whole(found.generation) then unreadable("its end is missing") end
    if #found.lanes == 0 or #found.node_types == 0 or #found.racks == 0 then
        unreadable("it has no lane, node type or rack")
    end
    resolve_parents(found)
    return found
end

-- The state in a text, or nil and why not.
function state.parse(content)
    local ok, result = pcall(build, content)
    if ok then return result end
    if type(result) == "table" and result.unreadable then return nil, result.unreadable end
    error(result, 0)
end

-- Between two cycles of the broker many jobs read the same text: it is taken apart once.
local last_content, last_found

local function remembered(content)
    if content ~= last_content then
        local found, why = state.parse(content)
        if not found then return nil, why end
        last_content, last_found = content, found
    end
    return last_found
end

-- The state in a file, or nil and why not. The only thing the hook ever reads.
function state.read(path)
    local file = io.open(path, "rb")
    if not file then return nil, "it cannot be opened" end
    local content = file:read(MOST_BYTES + 1)
    file:close()
    if not content or content == "" then return nil, "it is empty" end
    if #content > MOST_BYTES then return nil, "it is larger than 64 KiB" end
    return remembered(content)
end

function state.lane(found, name)
    for _, lane in ipairs(found.lanes) do
        if lane.name == name then return lane end
    end
    return nil
end

function state.pool(found, slurm_name)
    for _, pool in ipairs(found.reservations) do
        if pool.slurm == slurm_name then return pool end
    end
    return nil
end

return state
